"""Known pixels put back at every step, and steps taken again.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.editing.around import AroundSolver
from reverie.editing.noising import noised, raised
from reverie.samplers import Ancestral, Sampler, State
from reverie.schedules import Schedule
from reverie.tensors import Noise, host


@dataclass(frozen=True, eq=False)
class Replaced(AroundSolver):
    r"""The step of `solver`, then known pixels as the process would have them at s: alpha_s x0 + sigma_s z.

    Lugmayr et al. (2022), eq. 8. At s = 0 they are x0 itself, bit for bit. By itself the rest does not heed them
    enough: while they are noisy they say little, and nothing goes back; see `Resampled`.

    Raises:
        ValueError: a mask that does not fit x0.
    """

    x0: Tensor
    """(B or 1, ...), the image in the model's space; what is unknown of it is not looked at."""
    known: Tensor
    """Broadcasting against x0: True, or 1, where it is known."""
    solver: Sampler = field(default_factory=Ancestral)

    def __post_init__(self) -> None:
        try:
            self.known.expand(self.x0.shape)
        except RuntimeError:
            mask, image = tuple(self.known.shape), tuple(self.x0.shape)
            raise ValueError(f"a mask broadcasts against the image {image}; given {mask}") from None

    @property
    def deterministic(self) -> bool:
        return False

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        x_s, state = self.solver.step(f, x, t, s, cond, noise, state)
        level = f.schedule.at(s, like=x)
        told = noised(level, self.x0.to(x).expand_as(x), noise)
        return torch.where(self.known.to(x.device) > 0, told, x_s), state


@dataclass(frozen=True)
class _Run:
    """The state of the solver, and the times (N + 1,) of the grid where they are known."""

    solver: State
    times: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Resampled(Sampler):
    """The steps of `solver`, `times` over: every `length` steps back up by the process, and down again.

    Lugmayr et al. (2022), algorithm 1 with the jumps of their appendix B: down to the lowest noise level, and counted
    from there in steps of `length`, x is noised `length` steps of the grid up and denoised again, `times` - 1 times.
    Each time the unknown part hears again of what is known; `times` = 1 changes nothing. About `times` N evaluations
    for N steps. Their setting is length 10 and times 10 for 250 steps. What the solver puts back must be known without
    noise: `MeasuredPath` with noise no longer heeds what lies below it, and would forget it on the way.

    Raises:
        ValueError: unless length and times are at least 1.
    """

    solver: Sampler
    length: int = 10
    times: int = 10

    def __post_init__(self) -> None:
        if self.length < 1 or self.times < 1:
            raise ValueError(f"resampling needs length and times of at least 1; given {self.length} and {self.times}")

    @property
    def deterministic(self) -> bool:
        return self.times == 1 and self.solver.deterministic

    def init(self) -> State:
        return _Run(self.solver.init())

    def start(self, schedule: Schedule, times: Tensor) -> State:
        return _Run(self.solver.start(schedule, times), host(times))

    def check(self, schedule: Schedule, times: Tensor) -> None:
        self.solver.check(schedule, times)

    def evaluations(self, steps: int) -> int:
        """Steps of the solver that a grid of N `steps` takes."""
        again = sum(self._again(i, steps) for i in range(1, steps + 1))
        return steps + again * (self.times - 1) * self.length

    def _again(self, i: int, steps: int) -> bool:
        """Whether there are jumps at the i-th time of the grid."""
        return self.length <= i < steps and (steps - 1 - i) % self.length == 0

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        x, solver = self.solver.step(f, x, t, s, cond, noise, state.solver)
        state, grid = replace(state, solver=solver), state.times
        if grid is None or s.ndim or self.times == 1:
            return x, state
        i = int((grid - host(s)).abs().argmin())
        if not self._again(i, len(grid) - 1):
            return x, state

        def fresh(like: Tensor) -> Tensor:  # the increments of a Brownian path here have been used on the way down
            return noise(like)

        part = grid[i - self.length : i + 1]
        for _ in range(self.times - 1):
            x, solver = raised(f.schedule, x, part[-1], part[0], noise), self.solver.start(f.schedule, part)
            for high, low in pairwise(part.unbind()):
                x, solver = self.solver.step(f, x, high, low, cond, fresh, solver)
        return x, replace(state, solver=self.solver.start(f.schedule, grid[i:]))


def repaint(x0: Tensor, known: Tensor, solver: Sampler | None = None, length: int = 10, times: int = 10) -> Sampler:
    """RePaint (Lugmayr et al., 2022): `Replaced` known pixels of x0, and `Resampled` steps."""
    return Resampled(Replaced(x0, known, Ancestral() if solver is None else solver), length, times)


def pasted(result: Tensor, picture: Tensor, known: Tensor) -> Tensor:
    """`picture` where it is known and `result` elsewhere, both data (B, C, H, W): known pixels bit for bit."""
    return torch.where(known.to(result.device) > 0, picture.to(result.device), result)
