"""Which grid of those tuned for a run serves some settings, and what to say where none does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import Field, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from reverie import config
from reverie.grids import Tuned
from reverie.guidance import ClassifierFreeGuide, Guide
from reverie.samplers import Consistency, Sampler, Weighed
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


def effective_guidance(run: Run, sampling: Sampling) -> float:
    """The scale, or 1 where nothing is guided."""
    return sampling.guidance if _is_guided(run, sampling) else 1.0


def effective_guide(run: Run, sampling: Sampling) -> Guide | None:
    """None where nothing is guided, or where the guide is what there is without one."""
    own = sampling.guide != ClassifierFreeGuide() and _is_guided(run, sampling)
    return sampling.guide if own else None


def _is_guided(run: Run, sampling: Sampling) -> bool:
    """Whether the scale does something, and the model is told what it could be guided by, or another one leads."""
    guide = sampling.guide
    none, other = (1.0, False) if guide is None else (guide.neutral, bool(guide.needs))
    return sampling.guidance != none and (other or bool(run.vocabulary.parts))


def choose(run: Run, sampling: Sampling) -> Choice:
    """`sampling` with the grid tuned for its sampler, guidance and clipping in place of its own, and fitted weights.

    Weights serve the very steps and guidance they were fitted for; elsewhere the sampler's own are used.

    It makes as many steps as the grid of `sampling`. That stays, and the choice says why, where the file
    is damaged, where the weights are not those it was fitted to, and where other settings were tuned
    but not these, another guide or another threshold among them. A grid fitted with another scale of guidance
    serves within a factor of `NEAR`, which is said. A sampler that draws noise has no tuned grid, and nothing is said.
    """
    if not (run.path / FILE).is_file() or not _fits(run, sampling.sampler):
        return Choice(sampling)
    try:
        tuning = _fitting(run, sampling)
    except ValueError as error:
        return Choice(sampling, why=str(error))
    steps, asked = len(sampling.grid(run.schedule)) - 1, effective_guidance(run, sampling)
    why = "" if tuning.guidance == asked else f"the grid was tuned with {_other_guidance(run, [tuning], sampling)}"
    grid = grid_of(tuning, steps)
    sampler = sampling.sampler if why else sampler_of(tuning, steps)
    made = replace(sampling, sampler=sampler, grid=grid)
    try:
        run.recipe.check_sampling(made)
    except ValueError:  # it has learned its own times, and no others
        return Choice(sampling)
    return Choice(made, tuned=True, why=why)


def _fits(run: Run, sampler: Sampler) -> bool:
    """Whether times may have been fitted for it: it draws no noise, or is `Consistency` and there are some."""
    if not isinstance(sampler, Consistency):
        return sampler.deterministic
    try:
        return any(isinstance(t.sampler, Consistency) for t in read(run.path))
    except ValueError:
        return False


def tuned(run: Run) -> tuple[Tuning, ...]:
    """What is tuned, the newest last, with samplers completed as those that are sampled with.

    A file may be older than one of the settings that are completed.

    Raises:
        ValueError: as `read`.
    """

    def completed(sampler: Sampler) -> Sampler:
        return replace(run.recipe.sample, sampler=sampler).completed(run.space, run.shape).sampler

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
    guide = effective_guide(run, sampling)
    alike = [t for t in present if t.guide == guide and t.threshold == sampling.threshold]
    if not alike:
        raise ValueError(
            f"{run.path / FILE} was fitted {_denoised(present[-1].guide, present[-1].threshold)}, and these samples "
            f"are drawn {_denoised(guide, sampling.threshold)}, which is another denoiser"
        )
    present = alike
    asked = _named(sampling.sampler.kind, sampling.clip)
    of_sampler = [t for t in present if t.sampler == sampling.sampler and t.clip == sampling.clip]
    if not of_sampler:
        known = " and ".join(dict.fromkeys(_settings(t) for t in present))
        same = " with other settings" if asked in {_settings(t) for t in present} else ""
        raise ValueError(f"it was fitted for {known}{same}, not for {asked}; `{command}` fits one")
    guidance = effective_guidance(run, sampling)
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
    if sampler != own.completed(run.space, run.shape).sampler:
        plain = replace(own, sampler=type(sampler)()).completed(run.space, run.shape).sampler
        default, chosen = config.to_data(plain), config.to_data(sampler)
        words = ["--sampler", sampler.kind]
        words += [f"sampler.{key}={value}" for key, value in chosen.items() if value != default[key]]
    if run.vocabulary.parts and sampling.guidance != own.guidance:
        words += ["--guidance", f"{sampling.guidance:g}"]
    if sampling.clip != own.clip:
        words.append(f"clip={str(sampling.clip).lower()}")
    return words


def _other_guidance(run: Run, tunings: Sequence[Tuning], sampling: Sampling) -> str:
    known = ", ".join(f"{g:g}" for g in sorted({t.guidance for t in tunings}))
    asked = effective_guidance(run, sampling)
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


def _denoised(guide: Guide | None, threshold: float) -> str:
    """By what else the denoiser is another one, in words."""
    by = "classifier-free guidance" if guide is None else f"guide.kind={guide.kind}"
    if guide is not None:
        by += "".join(f" guide.{f.name}={getattr(guide, f.name)}" for f in fields(guide) if _changed(guide, f))
    return f"with {by} and {f'threshold={threshold:g}' if threshold else 'no threshold'}"


def _changed(guide: Guide, field: Field[Any]) -> bool:
    """Whether a setting is not its default."""
    return getattr(guide, field.name) != field.default


def _settings(tuning: Tuning) -> str:
    named = _named(tuning.sampler.kind, tuning.clip)
    special = tuning.guide is not None or tuning.threshold
    return f"{named}, {_denoised(tuning.guide, tuning.threshold)}" if special else named
