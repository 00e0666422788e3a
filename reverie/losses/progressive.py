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
from reverie.losses.teaching import Taught, landing
from reverie.losses.weights import Notation, TruncatedSNR, Weight
from reverie.parameterizations import Parameterization, rates_at
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Sampler
from reverie.schedules import Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class Progressive(Taught, kind="progressive"):
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
    flows = False

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

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        times = self.grid(schedule)
        return times[self._step(u, len(times) - 1)]

    @staticmethod
    def _step(u: Tensor, steps: int) -> Tensor:
        """(B,), the number of the step that u (B,) stands for: they are as likely."""
        return (u * steps).long().clamp(max=steps - 1)

    def path(self, u: Tensor, schedule: Schedule) -> Tensor:
        """(substeps + 1, B), the times that the teacher goes through, for u (B,)."""
        coarse = self.grid(schedule)
        steps = len(coarse) - 1
        fine = self.grid.with_steps(self.substeps * steps)(schedule)
        return torch.stack([fine[self._step(u, steps) * self.substeps + k] for k in range(self.substeps + 1)])

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
        check_outputs(self, parameterization)
        coarse = self.grid(schedule)
        fine = self.grid.with_steps(self.substeps * (len(coarse) - 1))(schedule)
        if not torch.allclose(fine[:: self.substeps], coarse, rtol=0, atol=1e-9):
            raise ValueError(
                f"loss.grid.kind={self.grid.kind} with {self.substeps} times as many steps has other times, so that "
                f"the teacher's do not lie between the student's; use loss.grid.kind=uniform"
            )

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        super().check_sampling(sampler, grid, schedule, guidance)
        own, asked = self.grid(schedule), grid(schedule)
        if sampler == DDIM() and len(own) == len(asked) and torch.allclose(own, asked, rtol=0, atol=1e-9):
            return
        raise ValueError(
            f"this model has learned the {len(own) - 1} steps of DDIM on its own grid and no others; given "
            f"{len(asked) - 1} of {sampler.kind} on the grid {grid.kind}: take its own sampler, steps and grid"
        )


def check_outputs(loss: Taught, parameterization: Parameterization) -> None:
    """Refuse a network that puts out a variance.

    Raises:
        ValueError: it does.
    """
    if parameterization.outputs > 1:
        raise ValueError(
            f"{type(parameterization).__name__} puts out a variance, which loss.kind={loss.kind} does not train; use a "
            f"parameterization without it"
        )
