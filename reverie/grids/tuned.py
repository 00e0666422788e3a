"""Times that were fitted to a denoiser."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reverie.grids.angle import Angle
from reverie.grids.base import Grid, check_steps, checked_times
from reverie.schedules import Schedule


@dataclass(frozen=True)
class Tuned(Grid, kind="tuned"):
    r"""The times fitted for N steps; where none were, what the fitted ones nearest to N say.

    With theta = atan(sigma / alpha), the times fitted for M steps are a falling curve theta_M(u),
    theta_M(i / M) at knot i and linear between. For N steps without times of their own, M < N < M'
    being the fitted numbers next to it,

        theta_N(i / N) = (1 - w) theta_M(i / N) + w theta_M'(i / N),   w = (1/M - 1/N) / (1/M - 1/M')

    Above the greatest M the generic grid `Angle(N)`, from where the fitted ones start, stands for M' =
    infinity, and for fewer steps than the least it stands alone.

    Args:
        steps: N.
        knots: for each fitted number M of steps, its times (M + 1,), as of any grid.
        origin: what they were fitted to, in words.

    Raises:
        ValueError: steps < 1, no knots at all, two of one length, or knots that are no times ending at 0.
    """

    steps: int
    knots: tuple[tuple[float, ...], ...]
    origin: str = ""

    def __post_init__(self) -> None:
        check_steps("Tuned", self.steps)
        if len({len(times) for times in self.knots}) < max(1, len(self.knots)):
            raise ValueError(f"Tuned needs times of at least one number of steps, each once; given {self.fitted}")
        for times in self.knots:
            checked_times(torch.tensor(times, dtype=torch.float64))
            if times[-1] != 0:
                raise ValueError(f"Tuned needs times that end at 0; given ones that end at {times[-1]:.6g}")

    @property
    def fitted(self) -> tuple[int, ...]:
        """The numbers of steps that have times of their own."""
        return tuple(sorted(len(times) - 1 for times in self.knots))

    def __call__(self, schedule: Schedule) -> Tensor:
        by_steps = {len(times) - 1: torch.tensor(times, dtype=torch.float64) for times in self.knots}
        if self.steps in by_steps:
            return by_steps[self.steps]
        fewer = max((m for m in by_steps if m < self.steps), default=None)
        more = min((m for m in by_steps if m > self.steps), default=None)
        start = by_steps[more or fewer or 0][:1]
        generic = Angle(self.steps, start=float(start))(schedule)
        if fewer is None:
            return generic
        few = self._curve(schedule, by_steps[fewer])
        many = _angles(schedule, generic) if more is None else self._curve(schedule, by_steps[more])
        least = 0.0 if more is None else 1 / more
        theta = torch.lerp(few, many, (1 / fewer - 1 / self.steps) / (1 / fewer - least))
        return torch.cat([start, schedule.time(-2 * theta[1:-1].tan().log()), torch.zeros_like(start)])

    def _curve(self, schedule: Schedule, times: Tensor) -> Tensor:
        """theta (N + 1,) at i / N on the curve of these times (M + 1,)."""
        theta = _angles(schedule, times)
        at = torch.arange(self.steps + 1, dtype=torch.float64) * (len(times) - 1) / self.steps
        below = at.floor().long().clamp_max(len(times) - 2)
        return torch.lerp(theta[below], theta[below + 1], at - below)

    def with_steps(self, steps: int) -> Tuned:
        return replace(self, steps=steps)


def _angles(schedule: Schedule, times: Tensor) -> Tensor:
    """theta = atan(sigma / alpha)."""
    return torch.atan2(schedule.sigma(times), schedule.alpha(times))
