"""Every schedule, grid, number of steps and sampler either runs or is refused before it begins, with a sentence."""

import pytest
import torch
from helpers import DOUBLE, SAMPLERS, defaults, every_sampler, every_schedule, gaussian, named, noise_from, seeded

from reverie.grids import Grid, checked_times
from reverie.samplers import Adaptive, Picard
from reverie.sampling import generate, prior
from reverie.schedules import LinearVP

GRIDS = defaults(Grid)


def times_of(grid, schedule, steps):
    """The times, or the sentence with which they are refused."""
    try:
        return checked_times(grid.with_steps(steps)(schedule))
    except ValueError as error:
        return str(error)


def refused(sampler, schedule, times):
    """The sentence with which a sampler refuses times; empty where it does not."""
    try:
        sampler.check(schedule, times)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("grid", **named(**GRIDS))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_grid_has_as_many_steps_as_it_is_asked_for(schedule, grid):
    refused = []
    for steps in range(1, 1001):
        times = times_of(grid, schedule, steps)
        if isinstance(times, str):
            refused.append(times)
        else:
            assert len(times) == steps + 1
            assert float(times[-1]) == 0
            assert bool((schedule.sigma(times[:-1]) > 0).all())
    assert all(len(sentence.split()) > 5 for sentence in refused)
    if refused:  # only a chain has no more steps than it has knots, and sections no other than those of whole strides
        assert grid.kind in ("knots", "sections")


@pytest.mark.parametrize("sampler", **every_sampler)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_samples_are_finite_or_the_times_are_refused(schedule, sampler):
    f, ran = gaussian(schedule), 0
    for grid in GRIDS.values():
        for steps in (1, 2, 5):
            times = times_of(grid, schedule, steps)
            if isinstance(times, str):
                continue
            noise = noise_from(seeded(steps))
            x = prior(schedule, times[0], torch.empty(2, 3, dtype=DOUBLE), noise)
            refusal = refused(sampler, schedule, times)
            if refusal:
                assert len(refusal.split()) > 8
                continue
            assert bool(generate(f, sampler, times, x, noise=noise).isfinite().all()), (grid, steps)
            ran += 1
    assert ran >= 3


@pytest.mark.parametrize("sampler", **named(**{k: s for k, s in SAMPLERS.items() if s.deterministic}))
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6, 9, 33, 1000])
def test_float32_stays_close_to_float64(sampler, steps):
    if steps == 1000 and isinstance(sampler, Adaptive | Picard):
        steps = 50  # each of their steps is many
    f = gaussian(LinearVP())
    times = GRIDS["log_snr"].with_steps(steps)(f.schedule)
    x = prior(f.schedule, times[0], torch.empty(4, 3, dtype=DOUBLE), noise_from(seeded(1)))
    exact, single = generate(f, sampler, times, x), generate(f, sampler, times, x.float())
    assert single.dtype == torch.float32
    assert float((single - exact).abs().max()) < 2e-4 * max(1.0, float(exact.abs().max()))
