"""Autoguidance: away from a weaker model.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, FixedRows, Rescheduled, Wrapper, by_row, self_conditioned
from reverie.guidance.pull import fixed_rows
from reverie.prediction import Prediction
from reverie.tensors import right


class AutoGuided(Wrapper):
    """W(x | c) + scale (D(x | c) - W(x | c)), in x0 and eps alike, with W a weaker model of the same data.

    Karras et al. (2024), eq. 3: scale 1 is no guidance, 0 the weaker model. W errs where D does, but more:
    a smaller network, or an earlier one, is led away from without giving up on diversity. It is told
    the same condition, so that it serves unconditional models, and dropped examples, as well. On another
    schedule it is asked at the same sigma / alpha. A learned variance is that of D.

    Args:
        denoiser: D.
        weaker: W.
        scale: 1 is none; or (B,), one for each example.
    """

    def __init__(self, denoiser: Denoises, weaker: Denoises, scale: float | Tensor) -> None:
        super().__init__(denoiser)
        rows = fixed_rows(denoiser)
        if rows is not None and fixed_rows(weaker) is None:
            weaker = FixedRows(weaker, rows)
        same = weaker.schedule == denoiser.schedule
        self.weaker = weaker if same else Rescheduled(weaker, denoiser.schedule)
        self.scale = scale

    @property
    def self_conditioned(self) -> bool:
        """If one of the two is."""
        return self_conditioned(self.denoiser) or self_conditioned(self.weaker)

    @property
    def by_row(self) -> bool:
        """If one of the two does."""
        return by_row(self.denoiser) or by_row(self.weaker)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        q = self.denoiser(x, t, cond)
        if not isinstance(self.scale, Tensor) and self.scale == 1:
            return q
        weak = self.weaker(x, t, cond)
        scale = right(self.scale, like=x) if isinstance(self.scale, Tensor) else self.scale
        x0, eps = (torch.lerp(a, b, scale) for a, b in ((weak.x0, q.x0), (weak.eps, q.eps)))
        return Prediction(x, q.level, x0, eps, q.var)
