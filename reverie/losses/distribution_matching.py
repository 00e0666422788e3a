"""Distribution matching: samples that a teacher cannot tell, at any level of noise, from what it has learned.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoiser, Denoises
from reverie.grids import Grid, Uniform
from reverie.losses.base import Bring
from reverie.losses.denoising import natural_notation, read
from reverie.losses.teaching import Counting, OnGrid, Steps
from reverie.losses.times import LogitNormalTimes, Times
from reverie.parameterizations import rates_at
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Consistency, Sampler
from reverie.schedules import Schedule
from reverie.tensors import Noise, right


@dataclass(frozen=True)
class DistributionMatching(Counting, OnGrid, kind="distribution_matching", aliases={"dmd": {}}):
    r"""(g - sg(g - (D_fake(y) - D_teacher(y)) / w))^2 / 2, for samples g of the student and y = alpha g + sigma eps.

        w = mean |g - D_teacher(y)|

    Yin et al. (2024a), eq. 7 and 8: the gradient is that of the divergence of the law of noised samples from that of
    noised data, for D_fake - D_teacher is in proportion to the difference of their scores. D_fake is a denoiser of the
    student's own samples, which begins as the teacher and learns beside the student (the second half of the loss). As
    Yin et al. (2024b) do, the student makes the N steps of `Consistency` on its `grid`, learns from what its own steps
    before have made, and moves in one of `every` steps of training, so that D_fake keeps up.

    Args:
        grid: the student's.
        times: the distribution of the level of y.
        every: steps of training for one of the student.

    Raises:
        ValueError: every < 1, several scales of guidance; or as `Taught`.
    """

    grid: Grid = field(default_factory=lambda: Uniform(1))
    times: Times = field(default_factory=LogitNormalTimes)
    every: int = 5
    apart = True

    @property
    def rests(self) -> bool:  # type: ignore[override]
        """Unless the student moves in every step."""
        return self.every > 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1:
            raise ValueError(f"loss.every must be at least 1; given {self.every}")
        if self.scales:
            raise ValueError(
                f"loss.kind=distribution_matching matches one law, and guidance of {self.guidance[0]:g} to "
                f"{self.guidance[1]:g} makes many: give one scale, such as loss.guidance=[2, 2]"
            )

    def memory(self, bring: Bring | None = None) -> Rival | None:
        return None if bring is None else Rival(bring.stage("teacher"))

    def begin(self, f: Denoises, x0: Tensor, u: Tensor, cond: Cond | None, noise: Noise) -> Tensor:
        """x (B, ...) at the step that each u (B,) stands for: as the student's own steps before make it of noise."""
        times, step = self.grid(f.schedule), self.step(u, f.schedule)
        x = f.schedule.at(times[0], like=x0).sigma * noise(x0)
        with torch.no_grad():
            for k in range(int(step.max())):
                x_s, _ = Consistency().step(f, x, times[k], times[k + 1], cond, noise, None)
                x = torch.where(right(step > k, like=x).bool(), x_s, x)
        return x

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        teacher, _ = self.lesson(f, x0, cond, noise)
        rival = memory if isinstance(memory, Rival) else None
        moves = rival is None or int(rival.done) % self.every == 0
        x = self.begin(f, x0, u, cond, noise)
        with torch.set_grad_enabled(moves and torch.is_grad_enabled()):
            made = f(x, self.times_at(u, f.schedule), cond).x0
        drawn = torch.special.ndtr(noise(x0).flatten(1)[:, 0].double().cpu())
        t = self.times(drawn.clamp(0, 1 - 1e-9), f.schedule)
        truth = Prediction.of(made.detach(), noise(x0), f.schedule.at(t, like=x0))
        with torch.no_grad():
            real = teacher(truth.x, t, cond).x0
        weight = (truth.x0 - real).abs().flatten(1).mean(1).clamp_min(1e-6)
        if rival is None:  # nothing is learned of the student yet: how far its samples are from what the teacher says
            return (truth.x0 - real).square().flatten(1).mean(1)
        fake = rival(truth.x, t, cond)
        pull = (fake.x0.detach() - real) / right(weight, like=x0)
        moved = (made - (made.detach() - pull)).square().flatten(1).mean(1) / 2
        return moved + rival.loss(fake, truth)

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        super().check_sampling(sampler, grid, schedule, guidance)
        own, asked = len(self.grid(schedule)) - 1, len(grid(schedule)) - 1
        if not self.is_own(grid, schedule) or not (
            isinstance(sampler, Consistency) or (sampler == DDIM() and own == 1)
        ):
            raise ValueError(
                f"this model has learned the {own} steps of sampler.kind=consistency on its own grid and no "
                f"others; given {asked} of {sampler.kind} on the grid {grid.kind}: take its own sampler, "
                f"steps and grid"
            )


class Rival(Steps):
    """A denoiser of the student's samples, which begins as the teacher."""

    def __init__(self, teacher: Denoiser) -> None:
        super().__init__()
        self.denoiser = copy.deepcopy(teacher).train().requires_grad_(True)

    def forward(self, x: Tensor, t: Tensor, cond: Cond | None) -> Prediction:
        """What it says of x (B, ...) at t (B,)."""
        made: Prediction = self.denoiser(x, t, cond)
        return made

    def loss(self, fake: Prediction, truth: Prediction) -> Tensor:
        """(B,), its squared error in the notation of its own output."""
        notation = natural_notation(self.denoiser.parameterization)
        rates = rates_at(self.denoiser.schedule, truth.level, truth.x)
        return (read(fake, notation, rates) - read(truth, notation, rates)).square().flatten(1).mean(1)
