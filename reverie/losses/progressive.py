"""Progressive distillation: one step for several of the teacher's."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.grids import Grid, Uniform
from reverie.losses.denoising import read
from reverie.losses.teaching import OnGrid, landing
from reverie.losses.weights import Notation, TruncatedSNR, Weight
from reverie.parameterizations import Parameterization, rates_at
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Sampler
from reverie.schedules import Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class Progressive(OnGrid, kind="progressive"):
    r"""w(level) (guess - target)^2, the target being what one step of DDIM needs to come where the teacher comes.

    Salimans & Ho (2022), algorithm 2. The student makes the N steps of its `grid`, t_0 > ... > t_N = 0; at t_i, drawn
    of its N levels, the teacher makes `substeps` steps of DDIM to t_(i+1), and the target is `landing` there. With
    substeps = 2 a student of N steps does what a teacher does in 2 N; its own student does it in N / 2, and so on.

    Args:
        grid: the student's; with `substeps` times as many steps it must have the same times among its own.
        substeps: of the teacher, for one of the student.
        notation: in which the error is taken.
        weight: the weight of a level.

    Raises:
        ValueError: fewer than one substep; or as `Taught`.
    """

    grid: Grid = field(default_factory=lambda: Uniform(4))
    substeps: int = 2
    notation: Notation = "x0"
    weight: Weight = field(default_factory=TruncatedSNR)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.substeps < 1:
            raise ValueError(f"loss.substeps must be at least 1; given {self.substeps}")

    @property
    def solves(self) -> tuple[Sampler, Grid]:
        return DDIM(), self.grid.with_steps(self.substeps * self.grid_steps)

    @property
    def grid_steps(self) -> int:
        """N."""
        return int(getattr(self.grid, "steps", 1))

    def fine(self, schedule: Schedule) -> Tensor:
        """(substeps N + 1,), the teacher's times."""
        steps = len(self.grid(schedule)) - 1
        return self.grid.with_steps(self.substeps * steps)(schedule)

    def path(self, u: Tensor, schedule: Schedule) -> Tensor:
        """(substeps + 1, B), the times that the teacher goes through, for u (B,)."""
        fine, first = self.fine(schedule), self.step(u, schedule) * self.substeps
        return torch.stack([fine[first + k] for k in range(self.substeps + 1)])

    def target(self, teacher: Denoises, x: Tensor, path: Tensor, cond: Cond | None) -> Prediction:
        """`landing` where the teacher comes from x (B, ...) along `path` (substeps + 1, B)."""
        z = x
        with torch.no_grad():
            for t, s in pairwise(path):
                z, _ = DDIM().step(teacher, z, t, s, cond, torch.zeros_like, None)
        return landing(x, teacher.schedule.at(path[0], like=x), z, teacher.schedule.at(path[-1], like=x))

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        path = self.path(u, f.schedule)
        truth = Prediction.of(x0, noise(x0), f.schedule.at(path[0], like=x0))
        teacher, told = self.lesson(f, x0, cond, noise)
        target, guess = self.target(teacher, truth.x, path, cond), f(truth.x, path[0], told)
        rates = rates_at(f.schedule, truth.level, x0)
        error = read(guess, self.notation, rates) - read(target, self.notation, rates)
        return (self.weight(truth.level, self.notation, rates) * error**2).flatten(1).mean(1)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """Refuse grids whose steps the teacher cannot divide.

        Raises:
            ValueError: with one that can be divided.
        """
        super().check(schedule, parameterization)
        if not torch.allclose(self.fine(schedule)[:: self.substeps], self.grid(schedule), rtol=0, atol=1e-9):
            raise ValueError(
                f"loss.grid.kind={self.grid.kind} with {self.substeps} times as many steps has other times, so that "
                f"the teacher's do not lie between the student's; use loss.grid.kind=uniform"
            )

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        super().check_sampling(sampler, grid, schedule, guidance)
        if sampler == DDIM() and self.is_own(grid, schedule):
            return
        own, asked = len(self.grid(schedule)) - 1, len(grid(schedule)) - 1
        raise ValueError(
            f"this model has learned the {own} steps of DDIM on its own grid and no others; given {asked} of "
            f"{sampler.kind} on the grid {grid.kind}: take its own sampler, steps and grid"
        )
