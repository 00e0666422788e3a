"""What a grid is.

A grid is a part; called with a schedule it gives decreasing times (N + 1,) in float64 on the host,
the last exactly 0. N is the number of sampler steps.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor

from reverie.config import Part
from reverie.schedules import Schedule
from reverie.tensors import host


class Grid(Part, abc.ABC, family="grid"):
    """Chooses the times for N steps on a schedule."""

    @abc.abstractmethod
    def __call__(self, schedule: Schedule) -> Tensor:
        """(N + 1,) float64, decreasing, ending at 0."""

    @abc.abstractmethod
    def with_steps(self, steps: int) -> Grid:
        """The same rule for another number of steps."""


def check_steps(name: str, steps: int) -> None:
    """Refuse fewer steps than one.

    Raises:
        ValueError: naming the grid.
    """
    if steps < 1:
        raise ValueError(f"{name} needs at least 1 step; given steps={steps}")


def ended(times: Tensor) -> Tensor:
    """`times` with 0 behind them."""
    return torch.cat([times, times.new_zeros(1)])


def checked_times(times: Tensor) -> Tensor:
    """`times` as float64 on the host, if they can be sampled along.

    Raises:
        ValueError: they are not decreasing, leave [0, 1], or number fewer than two.
    """
    if not isinstance(times, Tensor):
        raise ValueError(f"times are a tensor, which a grid gives when called: grid(schedule); given {times!r}")
    times = host(times)
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(f"times must be a vector of at least 2, from noise to data; given shape {tuple(times.shape)}")
    if not bool((times[1:] < times[:-1]).all()) or float(times[0]) > 1 or float(times[-1]) < 0:
        raise ValueError(f"times must fall strictly within [0, 1]; given {_few(times)}")
    return times


def _few(times: Tensor) -> str:
    shown = [f"{float(t):.6g}" for t in times[:8]]
    return ", ".join(shown) + (", ..." if len(times) > 8 else "")


def bounds(schedule: Schedule, low: float, high: float) -> tuple[float, float]:
    """sigma / alpha from `low` to `high`, the latter lowered to what the schedule reaches.

    Raises:
        ValueError: the schedule stays below `low`.
    """
    reached = math.exp(-float(schedule.log_snr(host(1.0))) / 2)
    if low >= min(high, reached):
        raise ValueError(
            f"this grid starts at sigma / alpha = {min(high, reached):.4g} and ends at {low:.4g}; the first must be "
            f"the larger: {type(schedule).__name__} reaches {reached:.4g}"
        )
    return low, min(high, reached)
