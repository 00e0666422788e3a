"""Times of a sampler that draws noise between its steps, fitted to how far its samples are from real examples.

A consistency model solves no equation step by step, so there is no exact solution whose neighbour a grid could be. What
can be asked is how good the samples are (Song et al., 2023, section 3 and algorithm 1: a greedy search, one time after
the other).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reverie.config import Plain
from reverie.grids import Tuned
from reverie.recipe import Sampling
from reverie.runs import Run
from reverie.tensors import host
from reverie.tuning.choice import effective_guidance, effective_guide
from reverie.tuning.keeping import kept
from reverie.tuning.record import Count, Tuning, model_of
from reverie.version import __version__

if TYPE_CHECKING:
    from reverie.synthesis import Notice
    from reverie.tuning.tuner import OnProgress, Settings

TRIES = 7
"""Places that are tried for each time."""
N = 512
"""Samples that are judged for each, unless said."""
GOLDEN = (math.sqrt(5) - 1) / 2


def fit_by_distance(
    run: Run, sampling: Sampling, settings: Settings, on_progress: OnProgress, notice: Notice
) -> Tuning:  # fmt: skip
    """Fit times for each number of steps up to the largest asked for, and keep those in the run.

    The first time is where the run's own grid begins. Each further one is put below the last by golden-section search
    in the angle atan(sigma / alpha), those before it staying where they are: by the kernel distance (or, in features of
    no network, the sliced Wasserstein distance) of the same samples, of the same noise, to training examples. Samples
    that are judged elsewhere should be of another seed.

    Args:
        run: a student that samples by `Consistency`.
        sampling: how, with guidance as it is to be.
        settings: of the fit: numbers of steps, samples, seed, and about how long it may take.
        on_progress: told how far it is.
        notice: told of a file that was damaged.

    Raises:
        ValueError: the run's data are gone or have changed, or it makes one number of steps alone.
    """
    began = time.perf_counter()
    n, most = settings.n or N, max(settings.nfe)
    for steps in range(1, most + 1):
        run.recipe.check_sampling(replace(sampling, grid=run.grid.with_steps(steps)))
    start = run.grid(run.schedule)[:1]
    distance = _distance(run, sampling, n, settings.seed)
    total, done = max(1, (most - 1) * TRIES), 0

    def measured(times: Tensor) -> float:
        nonlocal done
        value = distance(times)
        done += 1
        on_progress(min(1.0, done / (total + 1)), f"fitting: {len(times) - 1} steps")
        return value

    found = {1: torch.cat([start, start.new_zeros(1)])}
    values = {1: measured(found[1])}
    for steps in range(2, most + 1):
        before = found[steps - 1][:-1]
        late = time.perf_counter() - began > settings.seconds
        found[steps], values[steps] = _next(run, before, measured, 1 if late else TRIES)
    about: dict[str, Plain] = {
        "reverie": __version__, "made": datetime.now(UTC).isoformat(timespec="seconds"), "examples": n,
        "seed": settings.seed, "by": "the distance of samples to training examples",
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    counts = tuple(
        Count(steps, steps, tuple(found[steps].tolist()), about={**about, "distance": values[steps]})
        for steps in sorted({*settings.nfe})
    )
    on_progress(1.0, "done")
    made = Tuning(
        model_of(run), sampling.sampler, effective_guidance(run, sampling), sampling.clip, run.schedule, counts,
        effective_guide(run, sampling), sampling.threshold,
    )  # fmt: skip
    return kept(run, made, notice)


def _next(run: Run, before: Tensor, measured: Callable[[Tensor], float], tries: int) -> tuple[Tensor, float]:
    """`before` (N,), one time more, and 0; with its distance. The best of those tried."""
    schedule = run.schedule
    top = float(torch.atan2(schedule.sigma(before[-1:]), schedule.alpha(before[-1:])))
    known: dict[float, tuple[Tensor, float]] = {}

    def at(share: float) -> float:
        if share not in known:
            t = schedule.time(-2 * host([share * top]).tan().log())
            times = torch.cat([before, t, t.new_zeros(1)])
            known[share] = times, measured(times)
        return known[share][1]

    low, high = 0.02, 0.98
    if tries == 1:
        at(0.5)
    a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    while len(known) < tries:
        if at(a) <= at(b):
            high, b = b, a
            a = high - GOLDEN * (high - low)
        else:
            low, a = a, b
            b = low + GOLDEN * (high - low)
    return min(known.values(), key=lambda each: each[1])


def _distance(run: Run, sampling: Sampling, n: int, seed: int) -> Callable[[Tensor], float]:
    """Of n samples along some times, always of the same noise, to training examples."""
    from reverie.evaluation.evaluate import Reference, Settings
    from reverie.evaluation.extractors import suited
    from reverie.evaluation.metrics.kid import KID
    from reverie.evaluation.metrics.sliced_wasserstein import SlicedWasserstein
    from reverie.evaluation.reading import of_run
    from reverie.evaluation.subject import Subject

    real = of_run(run, 4 * n, 0).train
    extractor = suited(real)[0]
    metric = KID() if extractor.learned else SlicedWasserstein()
    device = next(run.denoiser.parameters()).device
    reference = Reference(real, Settings((extractor,), (metric,)), device=device)

    def distance(times: Tensor) -> float:
        grid = Tuned(len(times) - 1, (tuple(times.tolist()),))
        subject = Subject(run, replace(sampling, grid=grid), n, seed=seed).beside(real)
        return float(reference.evaluate(subject.draw(device=device)).numbers[0].value)

    return distance
