"""What of a fit to keep for each number of steps, judged on examples that it was not fitted to.

Letters in shapes: B examples, N steps, ... the shape of one example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.fitting import WEIGHTS, Error, Fitted, error, reference, times_of
from reverie.grids import Angle, Grid, Karras, LogSNR, Uniform, checked_times
from reverie.samplers import Sampler
from reverie.sampling import trajectory
from reverie.schedules import Schedule

TUNED, WEIGHED = "tuned", "weighed"
"""The names of the fitted times: with the sampler's own weights, and with fitted ones."""

OnStep = Callable[[int, str], None]
"""Told how many steps are done, and what is being done."""


@dataclass(frozen=True)
class Judged:
    """What is kept for one number of steps."""

    steps: int
    times: tuple[float, ...]
    """(N + 1,)"""
    weights: tuple[tuple[float, ...], ...]
    """Those of `Weighed`, or none."""
    kept: str
    """`WEIGHED`, `TUNED` or the name of a standard grid."""
    errors: dict[str, Error]
    """Of what is kept, as `TUNED`, and of the standard grids."""


def standard_grids(std: float, start: float) -> dict[str, Grid]:
    """The grids that are measured beside the fitted one, by kind."""
    grids: list[Grid] = [Angle(std=std, start=start), Uniform(start=start), Karras(), LogSNR()]
    return {grid.kind: grid for grid in grids}


def steps_to_judge(counts: Sequence[int], standards: int, reference_steps: int) -> int:
    """How many steps `judge` takes at most, the reference included."""
    return reference_steps + sum(counts) * (1 + len(WEIGHTS) + standards)


def judge(
    f: Denoises,
    sampler: Sampler,
    fitted: Fitted,
    at: Callable[[Tensor], Tensor],
    cond: Cond | None = None,
    *,
    start: float = 1.0,
    standards: Mapping[str, Grid],
    reference_steps: int = 300,
    on_step: OnStep | None = None,
) -> list[Judged]:
    """For each number of steps, the best of the fitted times, the standard grids and the fitted weights.

    The best row of times is that of the least product of both errors, root mean square and median. A fit
    that was cut short, or to too few examples, is thus no worse than what anyone may have without. Weights
    are kept only if both errors are below those of the best row of times.

    Args:
        f: the denoiser, as the fit saw it.
        sampler: the one fitted for.
        fitted: what the fit found.
        at: x (B, ...) at a time, from noise that was not fitted to.
        cond: what the denoiser is told of the B examples.
        start: where the fit began. Grids that start elsewhere are measured, but not kept.
        standards: grids by name, each asked for `with_steps(N)`; one that the schedule or the sampler
            cannot follow is left out.
        reference_steps: of the fine solution that stands for the exact one.
        on_step: told how far it is.
    """
    first, done, told = torch.tensor(start, dtype=torch.float64), reference_steps, on_step or (lambda done, what: None)
    told(0, "the reference")
    truth = reference(f, at(first), cond, start=start, steps=reference_steps)

    def measured(with_: Sampler, times: Tensor) -> Error:
        nonlocal done
        x = at(times[0])
        for step in trajectory(f, with_, times, x, cond):
            x, done = step.x, done + 1
            told(done, f"{len(times) - 1} steps")
        return error(x, truth)

    made = []
    for each in fitted.grids:
        own = fitted_times(f.schedule, each.angles, start)
        rows = {TUNED: own, **_followed(sampler, f.schedule, each.steps, standards)}
        errors = {name: measured(sampler, times) for name, times in rows.items()}
        here = [name for name, times in rows.items() if float(times[0]) == start]
        best = kept = min(here, key=lambda name: (errors[name].rms * errors[name].median, name != TUNED))
        weighed = [(measured(w, own), w.weights) for w in each.weighed]
        found = serving(errors[best], [e for e, _ in weighed])
        weights: tuple[tuple[float, ...], ...] = ()
        errors[TUNED], times = errors[best], rows[best]
        if found is not None:
            (errors[TUNED], weights), times, kept = weighed[found], own, WEIGHED
        made.append(Judged(each.steps, tuple(times.tolist()), weights, kept, errors))
    return made


def serving(without: Error, weighed: Sequence[Error]) -> int | None:
    """Which of the weights to keep: of those with both errors below the ones without, that of the least product."""
    better = [i for i, e in enumerate(weighed) if e.rms < without.rms and e.median < without.median]
    return min(better, key=lambda i: weighed[i].rms * weighed[i].median, default=None)


def fitted_times(schedule: Schedule, angles: Sequence[float], start: float) -> Tensor:
    """(N + 1,); the first is exactly where the fit began."""
    times = times_of(schedule, torch.tensor(angles, dtype=torch.float64))
    times[0] = start
    return checked_times(times)


def _followed(sampler: Sampler, schedule: Schedule, steps: int, standards: Mapping[str, Grid]) -> dict[str, Tensor]:
    """Times by name, but those that this schedule or sampler cannot follow."""
    found = {}
    for name, grid in standards.items():
        try:
            times = grid.with_steps(steps)(schedule)
            sampler.check(schedule, times)
        except ValueError:
            continue
        found[name] = times
    return found
