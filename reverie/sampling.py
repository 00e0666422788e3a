"""From noise to data, and back: loops over a sampler's steps.

The caller makes the times (`grid(schedule)`), the start (`prior`) and the noise (`streams`), and
draws, keeps or stops as it likes: `trajectory` only yields.

Letters in shapes: B batch, N steps, ... the shape of one example.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Remembering, self_conditioned
from reverie.devices import keep_freed_memory
from reverie.grids import checked_times
from reverie.prediction import Prediction
from reverie.samplers.base import Sampler, State
from reverie.schedules import Schedule
from reverie.tensors import Noise, host


@dataclass(frozen=True)
class Step:
    """One step done: its number from 0, from t to s, and x (B, ...) at s."""

    index: int
    t: Tensor
    s: Tensor
    x: Tensor


def prior(schedule: Schedule, t: Tensor | float, like: Tensor, noise: Noise = torch.randn_like) -> Tensor:
    """sigma(t) z, (B, ...): x at t where the data are negligible next to the noise, as at t = 1."""
    return schedule.at(host(t), like=like).sigma * noise(like)


def _steps(
    f: Denoises, sampler: Sampler, times: Tensor, x: Tensor, cond: Cond | None, noise: Noise, state: State
) -> Iterator[Step]:
    f = Remembering(f) if self_conditioned(f) else f
    for i, (t, s) in enumerate(zip(times[:-1].unbind(), times[1:].unbind(), strict=True)):
        with torch.no_grad():
            x, state = sampler.step(f, x, t, s, cond, noise, state)
        yield Step(i, t, s, x)


def trajectory(
    f: Denoises,
    sampler: Sampler,
    times: Tensor,
    x: Tensor,
    cond: Cond | None = None,
    noise: Noise = torch.randn_like,
) -> Iterator[Step]:
    """Sample along `times`, yielding after each step.

    Args:
        f: the denoiser.
        sampler: how to step.
        times: (N + 1,), decreasing within [0, 1]; a grid called with `f.schedule` gives them.
        x: (B, ...) at times[0]; see `prior`.
        cond: what the denoiser is told.
        noise: where stochastic samplers draw from.

    Raises:
        ValueError: times that cannot be followed.
    """
    times = checked_times(times)
    sampler.check(f.schedule, times)
    keep_freed_memory()
    return _steps(f, sampler, times, x, cond, noise, sampler.start(f.schedule, times))


def generate(
    f: Denoises,
    sampler: Sampler,
    times: Tensor,
    x: Tensor,
    cond: Cond | None = None,
    noise: Noise = torch.randn_like,
) -> Tensor:
    """x (B, ...) at the last of `times`; arguments as for `trajectory`."""
    for step in trajectory(f, sampler, times, x, cond, noise):
        x = step.x
    return x


class _FromData:
    """The denoiser, also at t = 0, where x is x0 and the noise is read off at the level `first`."""

    def __init__(self, f: Denoises, first: Tensor) -> None:
        self.f, self.first = f, first

    @property
    def schedule(self) -> Schedule:
        return self.f.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        if float(t.max()) > 0:
            return self.f(x, t, cond)
        level = self.schedule.at(self.first, like=x)
        eps = self.f(level.alpha * x, self.first, cond).eps
        return Prediction(x, self.schedule.at(t, like=x), x, eps)


def invert(f: Denoises, sampler: Sampler, times: Tensor, x: Tensor, cond: Cond | None = None) -> Tensor:
    """The noise that `generate` with the same arguments turns into x, up to the order of the sampler.

    The sampler's own step, along the grid reversed (Song et al., 2021, section 4.3). No denoiser
    knows t = 0; the first step reads its noise at the lowest level of the grid.

    Args:
        f: the denoiser.
        sampler: a one-step solver of the flow ODE, such as DDIM(), Heun() or Midpoint().
        times: (N + 1,), decreasing, as for `generate`.
        x: (B, ...) at times[-1], the data if that is 0.
        cond: what the denoiser is told.

    Raises:
        ValueError: a sampler that draws noise or looks back, or times that cannot be followed.
    """
    if not sampler.invertible:
        why = "looks back over several steps" if sampler.deterministic else "draws noise"
        raise ValueError(f"{sampler} {why} and cannot be inverted; use a one-step solver such as DDIM() or Heun()")
    upward = checked_times(times).flip(0)
    for step in _steps(_FromData(f, upward[1]), sampler, upward, x, cond, torch.zeros_like, sampler.init()):
        x = step.x
    return x
