"""Adaptive projected guidance.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Wrapper, by_row
from reverie.guidance.contrast import Contrast, Interval, guided_rows
from reverie.guidance.evaluations import chosen, evaluated, moved
from reverie.prediction import Prediction


class AdaptiveProjected(Wrapper):
    r"""D(x | c) + (scale - 1) u in x0, where u is the difference D(x | c) - D(x) held back in three ways.

    Sadat et al. (2024), algorithm 1, in this order, norms and products over one example:

        momentum    m = d + beta m, with d the difference and m that of the call before
        norm        m min(1, r / |m|)
        projection  u = the part of that orthogonal to D(x | c) + eta (the part parallel to it)

    The parallel part is what oversaturates. eta = 1 without the others is classifier-free guidance, and so is
    scale 1: none. Where no condition is given nothing is guided; an example whose condition is dropped
    is left as it is. A learned variance is that of D(x | c).

    With momentum it remembers, so each trajectory has one of its own, a batch goes through it whole
    (`reverie.denoiser.FixedRows` stands inside it), and a call with another number of rows begins anew. The
    method's m is that of one call a step: with a sampler that makes several calls it moves faster, and with
    one that repeats its calls until they agree (`Picard`) it means nothing.

    Args:
        denoiser: the model.
        scale: w; 1 is none.
        eta: the share of the parallel part that is kept.
        norm: r, in units of x0; 0 for no limit. It grows with the root of how many numbers an example has.
        momentum: beta, above -1 and below 1; negative in the paper, against oversteering; 0 for none.
        interval: as for `ClassifierFree`.
        negative: as for `ClassifierFree`.

    Raises:
        ValueError: a setting outside of its range.
    """

    def __init__(
        self,
        denoiser: Denoises,
        scale: float,
        *,
        eta: float = 0.0,
        norm: float = 0.0,
        momentum: float = 0.0,
        interval: Interval | None = None,
        negative: Cond | None = None,
    ) -> None:
        super().__init__(denoiser)
        check_projection(eta, norm, momentum)
        self.scale, self.eta, self.norm, self.momentum = scale, eta, norm, momentum
        self.contrast = Contrast(interval, negative)
        self.mean: Tensor | None = None

    @property
    def by_row(self) -> bool:
        """Also with momentum, or with a negative condition for each example."""
        return self.momentum != 0 or self.contrast.by_row or by_row(self.denoiser)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        inside = self.contrast.inside(self.schedule, t)
        if cond is None or not cond.given() or self.scale == 1 or (inside is not None and not bool(inside.any())):
            return self.denoiser(x, t, cond)
        made = evaluated(self.denoiser, x, t, self.contrast.pair(cond, len(x)))
        q, away = made[0], made[1]
        guided = moved(q, (self.scale - 1) * self._update(q.x0 - away.x0, q.x0))
        rows = guided_rows(cond, inside, x)
        return guided if rows is None else chosen(rows, guided, q)

    def _update(self, difference: Tensor, x0: Tensor) -> Tensor:
        """u for a difference, of which the momentum is kept."""
        if self.momentum:
            if self.mean is not None and self.mean.shape == difference.shape:
                difference = difference + self.momentum * self.mean
            self.mean = difference
        if self.norm:
            length = _dot(difference, difference).sqrt()
            difference = difference * (self.norm / length.clamp_min(self.norm))
        if self.eta == 1:
            return difference
        square = _dot(x0, x0)
        share = torch.where(square > 0, _dot(difference, x0) / square, 0.0)
        return difference - (1 - self.eta) * share * x0


def check_projection(eta: float, norm: float, momentum: float) -> None:
    """Refuse settings that mean nothing.

    Raises:
        ValueError: a negative eta or norm, or a momentum that does not die away.
    """
    if eta < 0 or norm < 0 or not -1 < momentum < 1:
        raise ValueError(
            f"adaptive projection needs eta >= 0, norm >= 0 (0 is no limit) and a momentum between -1 and 1; "
            f"given eta={eta}, norm={norm}, momentum={momentum}"
        )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """The product of two examples, (B, 1, ..., 1)."""
    return (a * b).flatten(1).sum(1).reshape((-1,) + (1,) * (a.ndim - 1))
