"""Denoisers in closed form for tests of losses with a teacher: data from N(mean, diag(std^2)).

Letters in shapes: B batch, ... the shape of one example.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.exact import Gaussian
from reverie.losses.teaching import landing
from reverie.prediction import Prediction
from reverie.samplers.base import Sampler, State
from reverie.schedules import Schedule
from reverie.tensors import Noise, host

MEAN = torch.tensor([0.7, -1.2, 0.3], dtype=torch.float64)
STD = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


def gaussian(schedule: Schedule) -> Gaussian:
    """The denoiser E[x0 | x_t]."""
    return Gaussian(schedule, MEAN, STD)


def solved(f: Gaussian, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x (B, ...) at t (B,) along the flow ODE to s (B,), where the quantile of x is kept; differentiable in both."""
    a, b = f.schedule.at(t, like=x), f.schedule.at(s, like=x)
    before, after = (((level.alpha * STD) ** 2 + level.sigma**2).sqrt() for level in (a, b))
    return b.alpha * MEAN + after / before * (x - a.alpha * MEAN)


@dataclass(frozen=True)
class Ends:
    """The consistency function: x0 is where the path ends that passes x."""

    of: Gaussian

    @property
    def schedule(self) -> Schedule:
        return self.of.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        t = host(t).expand(len(x))
        return Prediction.from_x0(solved(self.of, x, t, torch.zeros_like(t)), x, self.schedule.at(t, like=x))


@dataclass(frozen=True)
class Leaps:
    """What the step of DDIM needs to be told to come where the flow ODE comes: at the time told, else at t itself."""

    of: Gaussian

    @property
    def schedule(self) -> Schedule:
        return self.of.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        t = host(t).expand(len(x))
        if cond is None or cond.until is None:
            return self.of(x, t)
        s = host(cond.until)
        same = (s == t).reshape(-1, 1)
        lower = torch.where(s == t, t / 2, s)  # what it says there is not used
        q = landing(x, self.schedule.at(t, like=x), solved(self.of, x, t, lower), self.schedule.at(lower, like=x))
        own = self.of(x, t)
        x0, eps = (torch.where(same, a, b) for a, b in ((own.x0, q.x0), (own.eps, q.eps)))
        return Prediction(x, q.level, x0, eps)


@dataclass(frozen=True)
class Solving(Sampler):
    """The flow ODE of a Gaussian, solved."""

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def invertible(self) -> bool:
        return True

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        return solved(gaussian(f.schedule), x, host(t), host(s)), state
