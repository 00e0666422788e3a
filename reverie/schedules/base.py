"""What a schedule is, and a noise level on one.

Letters in shapes: B batch, N examples of a data set, ... the shape of one example.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, Self, TypeVar

import torch
from torch import Tensor

from reverie.config import Part
from reverie.tensors import host, right

REMEMBERED = 4096
"""For how many times a schedule keeps what it computed."""

Value = TypeVar("Value")


class Memory(Generic[Value]):
    """What a function gave at the last few thousand times, ()."""

    def __init__(self) -> None:
        self.known: dict[float, Value] = {}

    def of(self, t: Tensor, function: Callable[[Tensor], Value]) -> Value:
        """function(t), computed once."""
        key = t.item()
        if key not in self.known:
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            with torch.inference_mode(False):  # what is kept may serve training later
                self.known[key] = function(t.detach().clone())
        return self.known[key]


@dataclass(frozen=True)
class Level:
    """The noise level of a batch: t, alpha(t) and sigma(t), each broadcasting against x (B, ...).

    A level shared by the batch is held as float64 scalars on the host, which enter kernels as
    numbers; levels that differ by example have the dtype and device of x, but for t, which stays in
    float64 on the host, to compute from.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @cached_property
    def log_snr(self) -> Tensor:
        """log(alpha^2 / sigma^2)."""
        return 2 * (self.alpha.log() - self.sigma.log())


class Schedule(Part, abc.ABC, family="schedule"):
    """alpha and sigma as functions of t in [0, 1], given for t (B,) or () in float64.

    A subclass defines `alpha` and `sigma`; the rest has exact defaults, which a subclass replaces
    where it knows a closed form that is faster or keeps more digits.
    """

    @property
    def learns(self) -> bool:
        """Whether `fit` looks at the data."""
        return False

    def fit(self, data: Tensor) -> Self:
        """The schedule for data x0 like these (N, ...): itself, where nothing is fitted."""
        return self

    @property
    def knots(self) -> int | None:
        """T, where the published process is a chain of T steps, with knots at t = i / T; None where time runs on."""
        return None

    @abc.abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor on the data, 1 at t = 0 and falling."""

    @abc.abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise, 0 at t = 0."""

    def normalized(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The pair of this kind of process with the same sigma / alpha, for `reverie.schedules.Shifted`.

        On a pair of its own it changes nothing. Unless a schedule says otherwise it preserves the
        variance: both are divided by sqrt(alpha^2 + sigma^2).
        """
        size = (alpha**2 + sigma**2).sqrt()
        return alpha / size, sigma / size

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), falling in t; +inf at t = 0, and -inf where alpha = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time(self, log_snr: Tensor) -> Tensor:
        """The t at which `log_snr` is reached, clamped to [0, 1]: bisection to float64 resolution."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(64):
            middle = (low + high) / 2
            above = self.log_snr(middle) > log_snr
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt."""
        one = torch.ones_like(t)
        return torch.func.jvp(self.alpha, (t,), (one,))[1], torch.func.jvp(self.sigma, (t,), (one,))[1]

    def at(self, t: Tensor, like: Tensor) -> Level:
        """The level at t, (B,) or (), to broadcast against `like` (B, ...).

        Evaluated on the host in float64 and rounded once, if at all: see `Level`. One that the batch
        shares is remembered, so that a loop may ask again at no cost.
        """
        t = host(t)
        if t.ndim == 0:
            return self._shared(t)
        alpha, sigma = right(self.alpha(t), like), right(self.sigma(t), like)
        return Level(t.reshape(alpha.shape), alpha, sigma)

    def _shared(self, t: Tensor) -> Level:
        """The level at t, (), of every example."""
        return self._levels.of(t, lambda t: Level(t, self.alpha(t), self.sigma(t)))

    def shared_rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """`rates` at t, (), remembered like the level there."""
        return self._known_rates.of(host(t), self.rates)

    @cached_property
    def _levels(self) -> Memory[Level]:
        return Memory()

    @cached_property
    def _known_rates(self) -> Memory[tuple[Tensor, Tensor]]:
        return Memory()

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if not isinstance(value, Memory)}

    def ends_in_noise(self) -> bool:
        """Whether alpha(1) = 0 exactly, so that x_1 says nothing of x0 (zero terminal SNR)."""
        return float(self.alpha(host(1.0))) == 0.0
