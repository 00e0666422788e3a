"""Rectified flow once more: straight paths between noise and what the teacher makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.grids import Angle, Grid
from reverie.losses.base import OneLevel
from reverie.losses.denoising import Denoising
from reverie.losses.teaching import ByDenoising
from reverie.losses.times import LogitNormalTimes
from reverie.prediction import Prediction
from reverie.samplers import Adams, Sampler
from reverie.sampling import generate, prior
from reverie.tensors import Noise


@dataclass(frozen=True)
class Reflow(ByDenoising, kind="reflow"):
    """A denoising loss whose x0 is the sample that the teacher makes of the very noise that it is mixed with.

    Liu et al. (2023), section 2.2: paths between such pairs cross less than between data and any noise, so the flow
    that is learned of them is straighter, and fewer steps follow it. The data are told of, and not looked at.

    Args:
        sampler: of the teacher: a solver of the flow ODE.
        grid: its times.
        loss: what is learned of the pairs.

    Raises:
        ValueError: a sampler that draws noise; or as `Taught`.
    """

    sampler: Sampler = field(default_factory=Adams)
    grid: Grid = field(default_factory=lambda: Angle(10))
    loss: Denoising = field(default_factory=lambda: Denoising("flow", LogitNormalTimes()))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sampler.deterministic or self.sampler.adaptive:
            raise ValueError(
                f"loss.sampler.kind={self.sampler.kind} does not lead every noise to one sample in as many steps; use "
                f"adams, heun or ddim"
            )

    @property
    def solves(self) -> tuple[Sampler, Grid]:
        return self.sampler, self.grid

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        eps, (teacher, told) = noise(x0), self.lesson(f, x0, cond, noise)
        times = self.grid(f.schedule)
        made = generate(teacher, self.sampler, times, prior(f.schedule, times[0], x0, lambda _: eps), cond)
        t = self.loss.times_at(u, f.schedule)
        inner: OneLevel = self.loss
        return inner.value(f, Prediction.of(made, eps, f.schedule.at(t, like=x0)), t, told)
