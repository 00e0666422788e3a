"""Classifier-free guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Wrapper
from reverie.prediction import Prediction


class ClassifierFree(Wrapper):
    """D(x | c) + (scale - 1) (D(x | c) - D(x)), in x0 and eps alike.

    Ho & Salimans (2021), eq. 6 with w = scale - 1: scale 1 is no guidance, 0 is unconditional. The
    two evaluations run as one of twice the batch. Where no condition is given, nothing is guided.
    """

    def __init__(self, denoiser: Denoises, scale: float) -> None:
        super().__init__(denoiser)
        self.scale = scale

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        if cond is None or not cond.given() or self.scale == 1:
            return self.denoiser(x, t, cond)
        b = x.shape[0]
        twice = t.repeat(2) if t.ndim and t.shape[0] == b else t
        q = self.denoiser(torch.cat([x, x]), twice, Cond.cat(cond, cond.null(b), b))
        x0, eps = (n + self.scale * (c - n) for c, n in (q.x0.chunk(2), q.eps.chunk(2)))
        var = None if q.var is None else q.var[:b]
        return Prediction(x, self.schedule.at(t, like=x), x0, eps, var)
