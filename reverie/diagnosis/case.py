"""A run of several models, with the examples that its stages are looked at by.

Letters in shapes: N examples, B some of them, C channels, ... one example.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from reverie.cascade import Base
from reverie.data import Examples, Split, groups
from reverie.data.base import joined
from reverie.diagnosis.ceiling import Ceiling, ceiling
from reverie.diagnosis.distances import Ruler
from reverie.diagnosis.found import Found, Unmeasured
from reverie.diagnosis.latents import Latents, latents
from reverie.diagnosis.prior import PriorFound, cosines
from reverie.diagnosis.shares import FLOOR, Shares, shares
from reverie.diagnosis.upsampler import SPOILING, UpsamplerFound, levels_of, upsampler
from reverie.evaluation import Collection
from reverie.evaluation.reading import chosen, collected
from reverie.image_conditions import LowResolution, Shown
from reverie.prompts import Prompt, of_examples
from reverie.recipe import Recipe, Sampling
from reverie.request import Below, Request
from reverie.runs import Run
from reverie.schedules import Schedule
from reverie.spaces import Latent, OpenedLatent
from reverie.synthesis import synthesize
from reverie.tensors import streams
from reverie.training.sheets import shortened
from reverie.unclip import Prior

REFERENCE, HELD = 256, 128
"""Training examples that sets are compared with, and held-out ones that are encoded."""
DRAWN = (128, 32)
"""Held-out examples that samples are compared with: the first number for which there is time."""
FOLLOWING = 16
"""Held-out examples that are enlarged at each level of noise."""
STEPS, FEW = 16, 8
"""Of the sampler, at the most: where samples are compared with data, and where it is enough what they are of."""
LEAST = 3
"""Held-out examples without which nothing is measured."""
TRIED = 8
"""Samples by which it is told how long others take."""
AT_ONCE = 16
"""Examples that go through an autoencoder together."""


class Case:
    """Diagnoses of a run: the same every time, for the examples and all noise are chosen by the seed.

    Args:
        run: with weights, and its stages.
        examples: its data.
        device: where networks work.
        seed: of the examples and of samples.
        seconds: what the samples of one diagnosis may take, about; without end unless given.
    """

    def __init__(
        self, run: Run, examples: Examples, device: torch.device | str = "cpu", seed: int = 0,
        seconds: float | None = None,
    ) -> None:  # fmt: skip
        self.run, self.examples, self.device = run.to(device), examples, torch.device(device)
        self.seed, self.seconds = seed, seconds

    # ------------------------------------------------------------------------------- diagnoses

    def ceiling(self) -> Ceiling:
        """What the autoencoder, the run or its stage, loses."""
        space = self.run.space
        inner = space.inner if isinstance(space, OpenedLatent) else space
        return ceiling(inner, self._rebuilt, self._held_out(HELD), self.ruler)

    def latents(self) -> Latents:
        """Statistics of held-out latents."""
        return latents(self._x0(self._rows(HELD)))

    def upsampler(self) -> UpsamplerFound:
        """Whether the run follows its small pictures.

        Nothing but the picture is told, so that agreement cannot come by a class; where training never hides what else
        is told, each sample is told its own.
        """
        condition, rows, run = self._condition, self._rows(FOLLOWING), self.run
        sampling = replace(_few(run.recipe.sample, run.schedule, FEW), guidance=1.0, guide=None)
        steps = _steps(sampling, run.schedule)
        told = of_examples(run.vocabulary, self.examples, rows)
        prompts = told if run.recipe.train.drop == 0 else (Prompt(),) * len(rows)
        x0 = self._x0(rows)

        def draw(shown: Shown) -> Tensor:
            return self._drawn(self._enlarging(prompts, shown), sampling)

        self._affordable(self._tried(prompts, x0), sampling, len(levels_of(condition)), (len(rows),))
        return upsampler(draw, condition, x0, self._keys(len(rows)), steps)

    def shares(self) -> Shares:
        """What each stage adds to the distance from the data."""
        run, sampling = self.run, _few(self.run.recipe.sample, self.run.schedule, STEPS)
        latent, enlarges = isinstance(run.space, OpenedLatent), isinstance(run.recipe.image_condition, LowResolution)
        based = any(isinstance(each, Base) for each in run.request([Prompt()]).below)
        n = self._affordable(self._request(TRIED, 2, enlarges and not based), sampling, 1 + based, DRAWN)
        held_out = self._held_out(n)
        sets: list[tuple[str, str, Callable[[], Collection]]] = [(FLOOR, "held-out examples", lambda: held_out)]
        if latent:
            rebuilt = partial(self._rebuilt, torch.from_numpy(np.ascontiguousarray(held_out.items)))
            sets.append(("autoencoder", "their reconstructions", lambda: self._collected(rebuilt())))
        if enlarges:
            of_true = partial(self._samples, self._request(n, STEPS, enlarging=True), sampling)
            sets.append(("upsampler", "true small pictures enlarged", of_true))
        if based or not enlarges:
            whole = partial(self._samples, self._request(n, STEPS), sampling)
            sets.append(("base", "samples of all stages", whole) if based else ("model", "samples", whole))
        return shares(self.ruler, sets)

    def prior(self, most: int = HELD) -> PriorFound:
        """Whether a prior's embeddings of held-out captions are nearer to the true ones than what there is without it.

        That is the embedding of the image whose caption is the nearest of those trained on, and the mean of all.

        Args:
            most: captions, of those that are held out.
        """
        run, items = self.run, torch.from_numpy(np.array(self.examples.items))
        told = [i for i in self._rows(len(self._split.validation)) if self.examples.texts[i]]
        rows = chosen(np.array(told, dtype=int), most, self.seed)[0]
        train = np.array([i for i in self._split.train if self.examples.texts[i]])
        group = joined(groups(self.examples.items), self.examples.related)[rows]
        if len(np.unique(group)) < LEAST or len(train) < LEAST:
            raise Unmeasured(f"it takes {LEAST} captions at least, held out and trained on")
        texts = [self.examples.texts[i] for i in rows]
        asked = replace(run.request([Prompt(text=text) for text in texts]), seed=self.seed)
        made = Prior(run, _few(run.recipe.sample, run.schedule, STEPS)).embeddings(asked, self.device)
        known = run.joint.texts([self.examples.texts[i] for i in train])
        nearest = train[(run.joint.texts(texts) @ known.T).argmax(1).numpy()]
        return cosines(made, items[rows], items[nearest], items[self._split.train].mean(0), torch.from_numpy(group))

    # -------------------------------------------------------------------------------- examples

    @cached_property
    def ruler(self) -> Ruler:
        """Beside training examples."""
        rows, _ = chosen(self._split.train, REFERENCE, self.seed)
        return Ruler(collected(self.examples, rows, "training examples", {}), self.device)

    @cached_property
    def _split(self) -> Split:
        train = self.run.recipe.train
        return self.run.recipe.data.split(self.examples, train.validation, train.seed)

    def _rows(self, most: int) -> np.ndarray:
        """At most so many held-out rows, the same every time."""
        held = self._split.validation
        if len(held) < LEAST:
            raise Unmeasured(f"it takes {LEAST} held-out examples at least, and there are {len(held)}")
        return chosen(held, most, self.seed)[0]

    def _held_out(self, most: int) -> Collection:
        return collected(self.examples, self._rows(most), "held-out examples", {})

    def _x0(self, rows: np.ndarray) -> Tensor:
        """(B, C, ...) as the model sees them."""
        return self.run.space.encode(torch.from_numpy(np.ascontiguousarray(self.examples.items[rows])))

    def _keys(self, n: int) -> list[tuple[int, ...]]:
        return [(self.seed, i) for i in range(n)]

    # --------------------------------------------------------------------------------- samples

    @property
    def _condition(self) -> LowResolution:
        condition = self.run.recipe.image_condition
        assert isinstance(condition, LowResolution)
        return condition

    def _rebuilt(self, data: Tensor) -> Tensor:
        """Data encoded and decoded by the autoencoder, the run or its stage."""
        space = self.run.space
        if isinstance(space, OpenedLatent):
            return space.rebuilt(data)
        f, parts = self.run.autoencoder, []
        with torch.no_grad():
            for part in data.split(AT_ONCE):
                parts.append(f.decode(f.encode(space.encode(part).to(self.device))).cpu())
        return space.decode(torch.cat(parts))

    def _small(self, rows: np.ndarray, level: float) -> Shown:
        """What the upsampler is told of true small pictures, at a level of noise."""
        small = self._condition.small(self._x0(rows))
        eps = streams([(*key, SPOILING) for key in self._keys(len(rows))])(small) if level else None
        return self._condition.told(small, level, eps)

    def _enlarging(self, prompts: Sequence[Prompt], shown: Shown) -> Request:
        """A sample of each prompt, told these images."""
        return replace(self.run.request(prompts, shown.image, level=shown.level), seed=self.seed)

    def _request(self, n: int, steps: int, enlarging: bool = False) -> Request:
        """A sample like each of n held-out examples.

        Args:
            n: how many, if there are as many.
            steps: of a base, at the most.
            enlarging: whether samples are made of the true small pictures, in the place of those that a base draws.
        """
        rows = self._rows(n)
        prompts = of_examples(self.run.vocabulary, self.examples, rows)
        if enlarging:
            return self._enlarging(prompts, self._small(rows, self.run.recipe.sample.augmentation))
        request = replace(self.run.request(prompts), seed=self.seed)
        return replace(request, below=tuple(_briefly(each, steps) for each in request.below))

    def _tried(self, prompts: Sequence[Prompt], x0: Tensor) -> Request:
        some = x0[:TRIED]
        return self._enlarging(prompts[: len(some)], self._condition.told(self._condition.small(some), 0.0, None))

    def _drawn(self, request: Request, sampling: Sampling) -> Tensor:
        """x0 (N, C, ...)."""
        return synthesize(self.run.denoiser, self.run.shape, sampling, request, self.device)

    def _samples(self, request: Request, sampling: Sampling) -> Collection:
        return self._collected(self.run.space.decode(self._drawn(request, sampling)))

    def _collected(self, items: Tensor) -> Collection:
        return Collection(items.numpy(), self.examples.image, "samples")

    def _affordable(self, tried: Request, sampling: Sampling, times: int, sizes: Sequence[int]) -> int:
        """The first of the sizes for which there is time, by two steps of a few samples.

        Args:
            tried: `TRIED` samples.
            sampling: of all samples.
            times: how often so many samples are drawn.
            sizes: how many each time.

        Raises:
            Unmeasured: there is time for none.
        """
        if self.seconds is None:
            return sizes[0]
        brief, schedule = _few(sampling, self.run.schedule, 2), self.run.schedule
        self._drawn(tried, brief)  # the first call also loads kernels
        began = time.perf_counter()
        self._drawn(tried, brief)
        steps = _steps(sampling, schedule)
        each = times * steps * (time.perf_counter() - began) / _steps(brief, schedule) / TRIED
        for n in sizes:
            if n * each <= self.seconds:
                return n
        n = sizes[-1]
        raise Unmeasured(f"{times * n} samples in {steps} steps would take {n * each:.0f} s here")


def _few(sampling: Sampling, schedule: Schedule, most: int) -> Sampling:
    """With at most so many steps, if its grid can."""
    with suppress(ValueError):
        return shortened(sampling, schedule, most)
    return sampling


def _steps(sampling: Sampling, schedule: Schedule) -> int:
    return len(sampling.grid(schedule)) - 1


def _briefly(below: Below, steps: int) -> Below:
    """A model below with at most so many steps, where it is a base."""
    if not isinstance(below, Base):
        return below
    return replace(below, sampling=_few(below.sampling, below.run.schedule, steps))


CEILING, LATENTS, PRIOR, UPSAMPLER, SHARES = (
    "ceiling of the autoencoder", "latents", "embeddings of the prior", "use of small pictures", "shares of the error",
)  # fmt: skip
DIAGNOSES: Mapping[str, Callable[[Case], Found]] = {
    CEILING: Case.ceiling,
    LATENTS: Case.latents,
    PRIOR: Case.prior,
    UPSAMPLER: Case.upsampler,
    SHARES: Case.shares,
}
"""All that there are, by name; what they raise is `Unmeasured`, or a fault."""


def diagnoses(recipe: Recipe) -> tuple[str, ...]:
    """Names of the diagnoses that a run of this recipe has a stage for; none for a model by itself."""
    latent, denoiser = isinstance(recipe.space, Latent), recipe.kind == "denoiser"
    enlarges = denoiser and isinstance(recipe.image_condition, LowResolution)
    known = {
        CEILING: latent or recipe.kind == "autoencoder",
        LATENTS: latent,
        PRIOR: recipe.embedding == "text",
        UPSAMPLER: enlarges,
        SHARES: enlarges or (denoiser and latent),
    }
    return tuple(name for name, there in known.items() if there)
