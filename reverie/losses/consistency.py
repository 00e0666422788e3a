r"""Consistency models: x0(x_t, t) is the same all along a path of the flow ODE, the point where that ends.

Letters in shapes: B batch, ... the shape of one example, D its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.grids import Grid, Karras
from reverie.losses.teaching import Counting, Steps, Taught
from reverie.losses.times import LogNormalTimes, Times
from reverie.parameterizations import Parameterization
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Consistency, Heun, Sampler
from reverie.schedules import Schedule
from reverie.tensors import Noise, host, right


class ConsistencyModel(Counting, Taught):
    """What consistency models of both kinds share: how they are sampled, and what their network must put out."""

    times: Times
    flows = False

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.times(u, schedule)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """Refuse a network whose x0 does not become x itself as the noise goes to 0.

        Raises:
            ValueError: with those whose x0 does.
        """
        super().check(schedule, parameterization)
        if parameterization.kind == "x0":
            raise ValueError(
                "a consistency model says x where there is no noise, which a network that puts out x0 would have to "
                "learn; use parameterization.kind=v, edm, velocity or eps"
            )

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        super().check_sampling(sampler, grid, schedule, guidance)
        if isinstance(sampler, Consistency) or (sampler == DDIM() and len(grid(schedule)) == 2):
            return
        raise ValueError(
            f"a consistency model says where a path ends, and {sampler.kind} needs to know where it leads to next; use "
            f"sampler.kind=consistency, with 1 to 4 steps"
        )


@dataclass(frozen=True)
class ConsistencyMatching(ConsistencyModel, kind="consistency"):
    r"""d(x0(x_t, t), x0(x_s, s)) / (rho_t - rho_s), rho = sigma / alpha, with a gradient through the first x0 alone.

        d(a, b) = sqrt(|a - b|^2 + c^2) - c,   c = 0.00054 sqrt(D)

    Song et al. (2023), algorithms 2 and 3, as improved by Song & Dhariwal (2024). t and s are neighbours on a grid, t
    with the density of `times` there; x_s is a step of the teacher's flow ODE from x_t, or of the same x0 and noise as
    x_t where there is no teacher. At s = 0 the second term is x_s itself. The number of steps of the grid doubles every
    `doubling` steps of training, from `first` up to `most`.

    Args:
        taught: whether a teacher leads from x_t to x_s.
        sampler: of the teacher: a solver of the flow ODE that makes single steps.
        times: the distribution of t before it is brought to the grid.
        grid: by which t and s are neighbours.
        first: steps of it at first.
        most: steps of it at the end.
        doubling: steps of training between two doublings; 0: `most` from the start.

    Raises:
        ValueError: numbers out of their range, or a sampler that draws noise or looks back; or as `Taught`.
    """

    taught: bool = True
    sampler: Sampler = field(default_factory=Heun)
    times: Times = field(default_factory=lambda: LogNormalTimes(-1.1, 2.0))
    grid: Grid = field(default_factory=Karras)
    first: int = 10
    most: int = 160
    doubling: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.first <= self.most or self.doubling < 0:
            raise ValueError(
                f"loss.first and loss.most are the steps of a grid, at least 1, and loss.doubling at least 0; given "
                f"first={self.first}, most={self.most}, doubling={self.doubling}"
            )
        if not self.sampler.invertible:
            raise ValueError(
                f"loss.sampler.kind={self.sampler.kind} draws noise or looks back, and the teacher makes single steps "
                f"of the flow ODE; use ddim, heun or midpoint"
            )

    @property
    def solves(self) -> tuple[Sampler, Grid]:
        return self.sampler, self.grid.with_steps(self.most)

    def steps(self, memory: nn.Module | None) -> int:
        """Of the grid, by now; without memory as at the end."""
        if not isinstance(memory, Steps) or not self.doubling:
            return self.most
        return min(self.most, self.first * 2 ** min(30, int(memory.done) // self.doubling))

    def neighbours(self, u: Tensor, schedule: Schedule, steps: int) -> tuple[Tensor, Tensor]:
        """(B,) each: the time on a grid of so many steps next above that which u (B,) stands for, and the one below."""
        grid, t = self.grid.with_steps(steps)(schedule), host(self.times(u, schedule))
        above = (len(grid) - 1 - torch.searchsorted(grid.flip(0).contiguous(), t.contiguous())).clamp(0, len(grid) - 2)
        return grid[above], grid[above + 1]

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        t, s = self.neighbours(u, f.schedule, self.steps(memory))
        eps = noise(x0)
        truth, b = Prediction.of(x0, eps, f.schedule.at(t, like=x0)), f.schedule.at(s, like=x0)
        told = cond
        with torch.no_grad():
            x_s = truth.mix(b.alpha, b.sigma)
            if self.taught:
                teacher, told = self.lesson(f, x0, cond, noise)
                x_s, _ = self.sampler.step(teacher, truth.x, t, s, cond, noise, self.sampler.init())
            wanted = torch.where(right(s == 0, like=x0).bool(), x_s, f(x_s, torch.where(s > 0, s, t), told).x0)
        error = f(truth.x, t, told).x0 - wanted
        apart = (truth.level.sigma / truth.level.alpha.clamp_min(1e-3) - b.sigma / b.alpha.clamp_min(1e-3)).flatten()
        return pseudo_huber(error) / apart


def pseudo_huber(error: Tensor) -> Tensor:
    """(B,): sqrt(|error|^2 + c^2) - c, c = 0.00054 sqrt(D), for errors (B, ...), divided by sqrt(D).

    Song & Dhariwal (2024), section 3.3, eq. 7; here of the root mean square, so that it does not depend on D.
    """
    c, square = 0.00054, error.flatten(1).square().mean(1)
    return square / ((square + c**2).sqrt() + c)
