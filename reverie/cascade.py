"""Cascades: a model that enlarges what a smaller one, its stage `base`, draws (Ho et al., 2022).

Letters in shapes: B batch, C channels, h and w the sides of small pictures (or one axis or three of other data).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.grids import Grid
from reverie.guiding import helper_of
from reverie.image_conditions import LowResolution, Shown
from reverie.prompts import Asked, Prompt
from reverie.request import Request
from reverie.samplers import Weighed
from reverie.schedules import Schedule
from reverie.spaces import Space
from reverie.synthesis import synthesize
from reverie.tensors import host, sent, streams

if TYPE_CHECKING:
    from reverie.recipe import Sampling
    from reverie.runs import Run

SAMPLED = {"base": "a cascade", "prior": "unCLIP"}
"""Stages whose samples condition those of the run above, and what it is that has one."""
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
        below: how stages of its own do, where that is other than by their own settings: as `Run.sampling_below`.
    """

    run: Run
    space: Space
    condition: LowResolution
    sampling: Sampling
    below: Mapping[str, Sampling] = field(default_factory=dict)

    def __call__(self, part: Request, above: Sampling, device: torch.device) -> Cond:
        """`image`, noised as `above.augmentation` says, and `level` where the run above is told one."""
        above.check_levels(self.condition)  # before anything is drawn
        asked = asked_below(self.run, prompts_of(part), part, self.below, part.embedding)
        level = above.augmentation
        shown = self._truncated(asked, level, device) if above.truncated else self._whole(asked, level, device)
        return Cond(image=shown.image, level=shown.level)

    @property
    def depth(self) -> int:
        """How many models are below the base, one below the other."""
        return self.run.request((Prompt(),)).depth

    def small(self, asked: Request, device: torch.device) -> Tensor:
        """(B, C, h, w), samples of the stage as the run above sees them: rounded, where they are 8-bit pictures."""
        x = drawn(self.run, self.sampling, asked, device)
        return self.space.encode(self.run.space.decode(x))

    def _whole(self, asked: Request, level: float, device: torch.device) -> Shown:
        small = self.small(asked, device)
        if not level:
            return self.condition.told(small, 0.0, None)
        eps = streams([(*key, SPOILING) for key in asked.keys])(small)
        return self.condition.told(small, level, eps)

    def _truncated(self, asked: Request, level: float, device: torch.device) -> Shown:
        run, (shift, scale) = self.run, self._between()
        ratio = math.tan(math.pi / 2 * level) / scale  # sigma / alpha where the stage stops
        t = run.schedule.time(host(-2 * math.log(ratio)))
        sampler = self.sampling.sampler
        if isinstance(sampler, Weighed):  # its weights are for the whole of its grid
            sampler = sampler.method
        sampling = replace(self.sampling, sampler=sampler, grid=Until(self.sampling.grid, float(t)))
        x = drawn(run, sampling, asked, device)
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


def asked_below(
    run: Run, prompts: Sequence[Prompt], part: Request, below: Mapping[str, Sampling], embedding: Tensor | None = None
) -> Request:
    """What a stage is asked for a part of a request to the run above, and led away from what that is.

    Args:
        run: the stage.
        prompts: what its samples are asked to be.
        part: of the request to the run above.
        below: how stages of the stage sample, as `Run.sampling_below`.
        embedding: as for `Run.request`.
    """
    asked = run.request(prompts, negative=part.away, embedding=embedding, below=below)
    return replace(asked, seed=part.seed, start=part.start)


def drawn(run: Run, sampling: Sampling, asked: Request, device: torch.device) -> Tensor:
    """x0 (B, ...) of a request to a stage, with what guides it."""
    run = run.to(device)
    helper = helper_of(run, sampling, asked, device)
    return synthesize(run.denoiser, run.shape, sampling, asked, device, helper=helper)


def sampled(run: Run, below: Mapping[str, Sampling]) -> dict[str, tuple[Run, Sampling]]:
    """Stages whose samples condition those of a run, and theirs, and how each samples; by its path, such as base.prior.

    Args:
        run: the run.
        below: as `Run.sampling_below`.
    """
    found: dict[str, tuple[Run, Sampling]] = {}
    for name in (each.name for each in run.facts.stages if each.name in SAMPLED):
        stage = run.stage(name)
        found[name] = stage, below.get(name) or stage.settings()
        found |= {f"{name}.{path}": made for path, made in sampled(stage, inside(below, name)).items()}
    return found


def inside(below: Mapping[str, Sampling], name: str) -> dict[str, Sampling]:
    """What is said of the stages of a stage."""
    prefix = f"{name}."
    return {path.removeprefix(prefix): sampling for path, sampling in below.items() if path.startswith(prefix)}


def prompts_of(request: Request) -> tuple[Prompt, ...]:
    """What each sample of a request is asked to be."""
    if isinstance(request.cond, Asked):
        return request.cond.prompts
    return tuple(Prompt(label=label) for label in request.labels)
