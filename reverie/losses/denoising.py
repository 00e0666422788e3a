"""The weighted denoising loss."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.config import Part
from reverie.denoiser import Denoises
from reverie.losses.times import Times, UniformTimes
from reverie.losses.weights import Notation, Unit, Weight
from reverie.parameterizations import rates_at
from reverie.prediction import Prediction, Rates
from reverie.schedules import Schedule
from reverie.tensors import Noise


class Loss(Part, abc.ABC, family="loss"):
    """A loss by example, its randomness an argument."""

    @abc.abstractmethod
    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The times (B,) that u (B,) in [0, 1) stands for."""

    @abc.abstractmethod
    def __call__(
        self, f: Denoises, x0: Tensor, u: Tensor, cond: Cond | None = None, noise: Noise = torch.randn_like
    ) -> Tensor:
        """(B,), for data x0 (B, ...) and u (B,) float64 in [0, 1), where each example's time falls."""


@dataclass(frozen=True)
class Denoising(Loss, kind="denoising"):
    """E w(level) |guess - truth|^2 in one notation, averaged over the numbers of an example.

    Ho et al. (2020), eq. 14, is `Denoising()` on a chain with `KnotTimes`; denoising score matching
    (Vincent, 2011), flow matching and EDM differ in notation, times and weight alone.

    Args:
        notation: in which the error is taken: x0, eps, v, score or flow.
        times: the distribution of t.
        weight: the weight of a level.
    """

    notation: Notation = "eps"
    times: Times = field(default_factory=UniformTimes)
    weight: Weight = field(default_factory=Unit)

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.times(u, schedule)

    def __call__(
        self, f: Denoises, x0: Tensor, u: Tensor, cond: Cond | None = None, noise: Noise = torch.randn_like
    ) -> Tensor:
        t, eps = self.times(u, f.schedule), noise(x0)
        level = f.schedule.at(t, like=x0)
        truth = Prediction(level.alpha * x0 + level.sigma * eps, level, x0, eps)
        rates = rates_at(f.schedule, level, x0)
        guess = f(truth.x, t, cond)
        error = _read(guess, self.notation, rates) - _read(truth, self.notation, rates)
        return (self.weight(level, self.notation, rates) * error**2).flatten(1).mean(1)


def _read(q: Prediction, notation: Notation, rates: Rates) -> Tensor:
    if notation == "flow":
        return q.flow(rates)
    value: Tensor = getattr(q, notation)
    return value
