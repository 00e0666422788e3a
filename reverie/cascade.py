"""Cascades: a model that enlarges what a smaller one, its stage `base`, draws (Ho et al., 2022).

Letters in shapes: B batch, C channels, h and w the sides of small pictures (or one axis or three of other data).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.grids import Grid
from reverie.image_conditions import LowResolution, Shown
from reverie.prompts import Asked, Prompt
from reverie.request import Request
from reverie.schedules import Schedule
from reverie.spaces import Space
from reverie.synthesis import synthesize
from reverie.tensors import host, sent, streams

if TYPE_CHECKING:
    from reverie.recipe import Sampling
    from reverie.runs import Run

BASE = "base"
"""The name of the stage."""
SPOILING = 2
"""Keeps the noise that is put on small pictures apart from other noise of the same sample."""


@dataclass(frozen=True)
class Base:
    """The base of a cascade: for each sample of a request its own small picture, noised and enlarged.

    Its samples are those that the stage draws by itself of the same seed, so that they can be looked at, and replaced.

    Attributes:
        run: the stage.
        space: of the run above.
        condition: what the run above is told.
        sampling: how the stage samples.
    """

    run: Run
    space: Space
    condition: LowResolution
    sampling: Sampling

    def __call__(self, part: Request, above: Sampling, device: torch.device) -> Cond:
        """`image`, noised as `above.augmentation` says, and `level` where the run above is told one."""
        asked = replace(self.run.request(prompts_of(part), embedding=part.embedding), seed=part.seed, start=part.start)
        level = above.augmentation
        shown = self._truncated(asked, level, device) if above.truncated else self._whole(asked, level, device)
        return Cond(image=shown.image, level=shown.level)

    @property
    def depth(self) -> int:
        """How many models are below the base, one below the other."""
        return self.run.request((Prompt(),)).depth

    def small(self, asked: Request, device: torch.device) -> Tensor:
        """(B, C, h, w), samples of the stage as the run above sees them: rounded, where they are 8-bit pictures."""
        run = self.run.to(device)
        x = synthesize(run.denoiser, run.shape, self.sampling, asked, device)
        return self.space.encode(run.space.decode(x))

    def _whole(self, asked: Request, level: float, device: torch.device) -> Shown:
        small = self.small(asked, device)
        if not level:
            return self.condition.told(small, 0.0, None)
        eps = streams([(*key, SPOILING) for key in asked.keys])(small)
        return self.condition.told(small, level, eps)

    def _truncated(self, asked: Request, level: float, device: torch.device) -> Shown:
        run, (shift, scale) = self.run.to(device), self._between()
        ratio = math.tan(math.pi / 2 * level) / scale  # sigma / alpha where the stage stops
        t = run.schedule.time(host(-2 * math.log(ratio)))
        sampling = replace(self.sampling, grid=Until(self.sampling.grid, float(t)))
        x = synthesize(run.denoiser, run.shape, sampling, asked, device)
        stopped = run.schedule.at(t, like=x)
        alpha, sigma = float(stopped.alpha), float(stopped.sigma)
        return self.condition.truncated(scale * x + alpha * sent(shift, x), alpha, scale * sigma)

    def _between(self) -> tuple[Tensor, float]:
        """b (1, C, ...) and a number a, with which x0 of the run above is a x0 + b of the stage's.

        Raises:
            ValueError: there is no such number, so that noise of one level here is of several there.
        """
        like = torch.zeros(1, *self.run.shape)
        low, high = (self.space.encode(self.run.space.decode(v)) for v in (like, like + 1))
        if self.run.space.bounded and self.space.bounded:
            return like, 1.0
        scale = high - low
        if float(scale.std()) > 1e-4 * float(scale.abs().mean()):
            raise ValueError(
                f"truncated conditioning needs channels that {self.run.path} and the run above standardize alike; "
                f"leave it out, and noise is added instead"
            )
        return low, float(scale.mean())


@dataclass(frozen=True)
class Until(Grid):
    """Another grid's times down to one above 0, where sampling ends."""

    grid: Grid
    last: float

    def __call__(self, schedule: Schedule) -> Tensor:
        times = self.grid(schedule)
        return torch.cat([times[times > self.last], host([self.last])])

    def with_steps(self, steps: int) -> Until:
        return replace(self, grid=self.grid.with_steps(steps))


def prompts_of(request: Request) -> tuple[Prompt, ...]:
    """What each sample of a request is asked to be."""
    if isinstance(request.cond, Asked):
        return request.cond.prompts
    return tuple(Prompt(label=label) for label in request.labels)
