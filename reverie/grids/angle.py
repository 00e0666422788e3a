"""The grid for runs that were not tuned: equal steps in the angle between data and noise, nearly."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reverie.grids.base import Grid, check_steps
from reverie.schedules import Schedule
from reverie.tensors import host


@dataclass(frozen=True)
class Angle(Grid, kind="angle"):
    r"""theta = atan(sigma / (alpha std)) falls from that of `start` to 0 by nearly equal steps.

        u_i = (i - first) / (N - first),   i = 1 ... N;   u_0 = 0
        theta_i = theta_0 (1 - u_i) (1 + bend u_i)

    The first step, for which a multistep method has one value to go by, is shorter than the rest.

    Args:
        steps: N.
        std: the standard deviation of the data; 1 unless given. A run gives its own.
        start: the first time.

    Raises:
        ValueError: steps < 1, std <= 0, or start outside (0, 1].
    """

    steps: int = 20
    std: float | None = None
    start: float = 1.0

    def __post_init__(self) -> None:
        check_steps("Angle", self.steps)
        if self.std is not None and not 0 < self.std < math.inf:
            raise ValueError(f"Angle needs the standard deviation of the data, a positive number; given {self.std}")
        if not 0 < self.start <= 1:
            raise ValueError(f"Angle needs a start in (0, 1]; given {self.start}")

    def __call__(self, schedule: Schedule) -> Tensor:
        start, std = host(self.start), 1.0 if self.std is None else self.std
        theta_0 = torch.atan2(schedule.sigma(start), std * schedule.alpha(start))
        theta = theta_0 * fractions(self.steps)[1:-1]
        times = schedule.time(-2 * (std * theta.tan()).log())
        return torch.cat([start[None], times, times.new_zeros(1)])

    def with_steps(self, steps: int) -> Angle:
        return replace(self, steps=steps)


_FIRST, _BEND = 0.4, -0.15


def fractions(steps: int) -> Tensor:
    """theta_i / theta_0, (N + 1,), from 1 to 0."""
    u = (torch.arange(steps + 1, dtype=torch.float64) - _FIRST).clamp_min(0) / (steps - _FIRST)
    return (1 - u) * (1 + _BEND * u)
