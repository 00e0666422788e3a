"""Which grid of those tuned for a run serves some settings, and what to say where none does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie import config
from reverie.grids import Tuned
from reverie.samplers import Sampler, Weighed
from reverie.samplers.weighed import angles
from reverie.tensors import host
from reverie.tuning.record import FILE, Tuning, model_of, read

if TYPE_CHECKING:
    from reverie.recipe import Sampling
    from reverie.runs import Run

NEAR = 1.5 + 1e-9
"""The factor between two scales of guidance up to which a grid of one serves the other: further off it gains
little, and beyond 3 loses (benchmarks/results/tuned_grids.md)."""


@dataclass(frozen=True)
class Choice:
    """Settings to sample with."""

    sampling: Sampling
    tuned: bool = False
    """Whether their grid is one that was tuned."""
    why: str = ""
    """What a user should know: why none of those tuned is taken, or that one of another guidance is."""

    @property
    def note(self) -> str:
        """A sentence to print before sampling; empty where there is nothing to say."""
        if self.tuned or not self.why:
            return self.why
        return f"the grid is {self.sampling.grid.kind}, not a tuned one: {self.why}"


def effective_guidance(run: Run, guidance: float) -> float:
    """1 where there are no classes, as nothing is guided there."""
    return guidance if run.classes else 1.0


def choose(run: Run, sampling: Sampling) -> Choice:
    """`sampling` with the grid tuned for its sampler, guidance and clipping in place of its own, and fitted weights.

    Weights serve the very steps and guidance they were fitted for; elsewhere the sampler's own are used.

    It makes as many steps as the grid of `sampling`. That stays, and the choice says why, where the file
    is damaged, where the weights are not those it was fitted to, and where other settings were tuned
    but not these. A grid fitted with another guidance serves within a factor of `NEAR`, which is said. A
    sampler that draws noise has no tuned grid, and nothing is said.
    """
    if not (run.path / FILE).is_file() or not sampling.sampler.deterministic:
        return Choice(sampling)
    try:
        tuning = _fitting(run, sampling)
    except ValueError as error:
        return Choice(sampling, why=str(error))
    steps, asked = len(sampling.grid(run.schedule)) - 1, effective_guidance(run, sampling.guidance)
    why = "" if tuning.guidance == asked else f"the grid was tuned with {_other_guidance(run, [tuning], sampling)}"
    grid = grid_of(tuning, steps)
    sampler = sampling.sampler if why else sampler_of(tuning, steps)
    return Choice(replace(sampling, sampler=sampler, grid=grid), tuned=True, why=why)


def tuned(run: Run) -> tuple[Tuning, ...]:
    """What is tuned, the newest last, with samplers completed as those that are sampled with.

    A file may be older than one of the settings that are completed.

    Raises:
        ValueError: as `read`.
    """

    def completed(sampler: Sampler) -> Sampler:
        return replace(run.recipe.sample, sampler=sampler).completed(run.space, run.facts.shape).sampler

    return tuple(replace(t, sampler=completed(t.sampler)) for t in read(run.path))


def _fitting(run: Run, sampling: Sampling) -> Tuning:
    """The one for these settings.

    Raises:
        ValueError: there is none; the sentence says what there is, and which command makes one.
    """
    command = " ".join(("reverie", "tune", str(run.path), *words_for(run, sampling)))
    tunings, model = [t for t in tuned(run) if t.counts], model_of(run)
    present = [t for t in tunings if t.model == model and t.schedule == run.schedule]
    if not present:
        raise ValueError(
            f"{run.path / FILE} was fitted to other weights than the run has now; `{command}` fits one to these"
        )
    asked = _named(sampling.sampler.kind, sampling.clip)
    of_sampler = [t for t in present if t.sampler == sampling.sampler and t.clip == sampling.clip]
    if not of_sampler:
        known = " and ".join(dict.fromkeys(_settings(t) for t in present))
        same = " with other settings" if asked in {_settings(t) for t in present} else ""
        raise ValueError(f"it was fitted for {known}{same}, not for {asked}; `{command}` fits one")
    guidance = effective_guidance(run, sampling.guidance)
    nearest = min(reversed(of_sampler), key=lambda t: _apart(t.guidance, guidance))
    if _apart(nearest.guidance, guidance) > math.log(NEAR):
        raise ValueError(f"it was fitted with {_other_guidance(run, of_sampler, sampling)}")
    return nearest


def _apart(a: float, b: float) -> float:
    """The logarithm of the factor between two scales of guidance."""
    if a == b:
        return 0.0
    return abs(math.log(a / b)) if a > 0 and b > 0 else math.inf


def words_for(run: Run, sampling: Sampling) -> list[str]:
    """What the command line of `sample` and `tune` is told of these settings; nothing of what is the run's own."""
    own, sampler, words = run.recipe.sample, sampling.sampler, []
    if sampler != own.completed(run.space, run.facts.shape).sampler:
        plain = replace(own, sampler=type(sampler)()).completed(run.space, run.facts.shape).sampler
        default, chosen = config.to_data(plain), config.to_data(sampler)
        words = ["--sampler", sampler.kind]
        words += [f"sampler.{key}={value}" for key, value in chosen.items() if value != default[key]]
    if run.classes and sampling.guidance != own.guidance:
        words += ["--guidance", f"{sampling.guidance:g}"]
    if sampling.clip != own.clip:
        words.append(f"clip={str(sampling.clip).lower()}")
    return words


def _other_guidance(run: Run, tunings: Sequence[Tuning], sampling: Sampling) -> str:
    known = ", ".join(f"{g:g}" for g in sorted({t.guidance for t in tunings}))
    asked = effective_guidance(run, sampling.guidance)
    command = " ".join(("reverie", "tune", str(run.path), *words_for(run, sampling)))
    return f"guidance {known}, not {asked:g}; `{command}` fits one"


def grid_of(tuning: Tuning, steps: int) -> Tuned:
    """The grid of so many steps."""
    origin = f"tuned for {_settings(tuning)}, guidance {tuning.guidance:g}; weights {tuning.model[:16]}"
    return Tuned(steps, tuple(c.times for c in tuning.counts), origin)


def sampler_of(tuning: Tuning, steps: int) -> Sampler:
    """The sampler with the weights fitted for so many steps, if there are any."""
    found = next((c for c in tuning.counts if c.steps == steps), None)
    if found is None or not found.weights:
        return tuning.sampler
    return Weighed(tuning.sampler, tuple(angles(tuning.schedule, host(found.times)).tolist()), found.weights)


def described(run: Run) -> str:
    """What is tuned, in words: for `reverie info`."""
    try:
        tunings = read(run.path)
        model = model_of(run) if tunings else ""
    except ValueError as error:
        return str(error)
    present = [t for t in tunings if t.model == model and t.counts]
    told = [
        f"{_settings(t)}, guidance {t.guidance:g}: {', '.join(str(c.evaluations) for c in t.counts)} evaluations"
        for t in present
    ]
    others = sum(bool(t.counts) for t in tunings) - len(present)
    if others:
        told.append(f"{others} fitted to other weights")
    return "; ".join(told) or "not yet"


def _named(sampler: str, clip: bool) -> str:
    return f"{sampler}, clipped" if clip else sampler


def _settings(tuning: Tuning) -> str:
    return _named(tuning.sampler.kind, tuning.clip)
