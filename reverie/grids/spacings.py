"""The published rules by which noise levels are spaced."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reverie.grids.base import Grid, bounds, check_steps, ended
from reverie.schedules import Schedule


@dataclass(frozen=True)
class Uniform(Grid, kind="uniform"):
    """t_i = start (1 - i / N).

    Raises:
        ValueError: steps < 1, or start outside (0, 1].
    """

    steps: int = 50
    start: float = 1.0

    def __post_init__(self) -> None:
        check_steps("Uniform", self.steps)
        if not 0 < self.start <= 1:
            raise ValueError(f"Uniform needs a start in (0, 1]; given {self.start}")

    def __call__(self, schedule: Schedule) -> Tensor:
        return torch.linspace(self.start, 0, self.steps + 1, dtype=torch.float64)

    def with_steps(self, steps: int) -> Uniform:
        return replace(self, steps=steps)


@dataclass(frozen=True)
class LogSNR(Grid, kind="log_snr"):
    """N times at equal distances in log-SNR, then 0.

    sigma / alpha falls geometrically from `high`, or from what the schedule reaches at t = 1 if
    that is less, to `low` (Lu et al., 2022).

    Raises:
        ValueError: steps < 1, or not 0 < low < high.
    """

    steps: int = 50
    low: float = 0.002
    high: float = 80.0

    def __post_init__(self) -> None:
        check_steps("LogSNR", self.steps)
        if not 0 < self.low < self.high:
            raise ValueError(f"LogSNR needs 0 < low < high; given low={self.low}, high={self.high}")

    def __call__(self, schedule: Schedule) -> Tensor:
        low, high = bounds(schedule, self.low, self.high)
        log_snr = torch.linspace(-2 * math.log(high), -2 * math.log(low), self.steps, dtype=torch.float64)
        return ended(schedule.time(log_snr))

    def with_steps(self, steps: int) -> LogSNR:
        return replace(self, steps=steps)


@dataclass(frozen=True)
class Karras(Grid, kind="karras"):
    """sigma_i = (high^(1/rho) + i / (N - 1) (low^(1/rho) - high^(1/rho)))^rho, then 0.

    Karras et al. (2022), eq. 5, with sigma read as sigma / alpha, so that it serves any schedule;
    `high` is lowered to what the schedule reaches at t = 1.

    Raises:
        ValueError: steps < 1, or not 0 < low < high, or rho <= 0.
    """

    steps: int = 18
    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        check_steps("Karras", self.steps)
        if not 0 < self.low < self.high or not self.rho > 0:
            raise ValueError(
                f"Karras needs 0 < low < high and rho > 0; given low={self.low}, high={self.high}, rho={self.rho}"
            )

    def __call__(self, schedule: Schedule) -> Tensor:
        low, high = bounds(schedule, self.low, self.high)
        root = torch.linspace(high ** (1 / self.rho), low ** (1 / self.rho), self.steps, dtype=torch.float64)
        return ended(schedule.time(-2 * self.rho * root.log()))

    def with_steps(self, steps: int) -> Karras:
        return replace(self, steps=steps)


@dataclass(frozen=True)
class Knots(Grid, kind="knots"):
    """Every `stride`-th knot i / T of a chain of T steps, counted down from `start`.

    T is `total`, or else the schedule's own number of knots, or 1000 for a process in continuous
    time. Knot i is the chain's index i - 1. The start is the noisy end, T, unless said. With `steps` =
    N the stride is start / N; one that is not whole is rounded to knots. From T that is diffusers'
    "trailing" spacing of N steps; with start = T - stride + 1, its "leading" spacing.

    Raises:
        ValueError: total < 1, stride < 1, both a stride and steps, a start outside 1 ... T, or more
            steps than knots.
    """

    total: int | None = None
    stride: float = 1.0
    start: int | None = None
    steps: int | None = None

    def __post_init__(self) -> None:
        if (self.total is not None and self.total < 1) or not self.stride >= 1:
            raise ValueError(f"Knots needs total >= 1 and stride >= 1; given total={self.total}, stride={self.stride}")
        if self.start is not None and not 1 <= self.start <= (self.total or math.inf):
            raise ValueError(f"Knots needs a start in 1 ... {self.total or 'T'}; given {self.start}")
        if self.steps is not None:
            check_steps("Knots", self.steps)
            if self.stride != 1:
                raise ValueError(f"Knots needs a stride or steps, not both; given {self.stride} and {self.steps}")
            self._check_enough(self.total if self.start is None else self.start)

    def _check_enough(self, first: int | None) -> None:
        if first is not None and self.steps is not None and self.steps > first:
            raise ValueError(
                f"a chain of {first} knots has no {self.steps} steps; at most {first}, or use another grid"
            )

    def __call__(self, schedule: Schedule) -> Tensor:
        total = self.total or schedule.knots or 1000
        first = total if self.start is None else self.start
        if first > total:
            raise ValueError(f"{type(schedule).__name__} has {total} knots, and grid.start is {first}; at most {total}")
        self._check_enough(first)
        stride = self.stride if self.steps is None else first / self.steps
        knots = (first - stride * torch.arange(math.ceil(first / stride), dtype=torch.float64)).round()
        return ended(knots[knots > 0]) / total

    def with_steps(self, steps: int) -> Knots:
        return replace(self, stride=1.0, steps=steps)
