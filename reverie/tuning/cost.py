"""How many evaluations of the denoiser a sampler makes of a number of steps."""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.exact import Gaussian
from reverie.grids import Uniform
from reverie.prediction import Prediction
from reverie.samplers import Sampler
from reverie.sampling import generate
from reverie.schedules import Schedule


class _Counted:
    """The exact denoiser of a normal number of mean 0, which counts its calls."""

    def __init__(self, schedule: Schedule, std: float) -> None:
        self.schedule, self.calls = schedule, 0
        self._f = Gaussian(schedule, torch.zeros(1, dtype=torch.float64), std)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        self.calls += 1
        return self._f(x, t, cond)


def evaluations(sampler: Sampler, schedule: Schedule, steps: int, start: float = 1.0, std: float = 1.0) -> int:
    """How often `sampler` calls the denoiser in so many steps from the time `start`, by counting.

    The count is of data of standard deviation `std`, which matters to adaptive samplers alone.

    Raises:
        ValueError: the sampler cannot follow times that start there.
    """
    times, f = Uniform(steps, start)(schedule), _Counted(schedule, std)
    sampler.check(schedule, times)
    generate(f, sampler, times, torch.ones(1, 1, dtype=torch.float64))
    return f.calls


def steps_within(sampler: Sampler, schedule: Schedule, limit: int, start: float = 1.0) -> tuple[int, int]:
    """How many evaluations the most steps take that take at most `limit`, and these steps.

    Raises:
        ValueError: even one step takes more.
    """
    cost = evaluations(sampler, schedule, 1, start)
    if cost > limit:
        raise ValueError(f"{sampler.kind} takes {cost} evaluations for its first step; given {limit}")
    steps, beyond = 1, limit + 1  # a step takes at least one evaluation
    while beyond - steps > 1:
        middle = (steps + beyond) // 2
        found = evaluations(sampler, schedule, middle, start)
        if found <= limit:
            steps, cost = middle, found
        else:
            beyond = middle
    return cost, steps
