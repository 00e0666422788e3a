"""The law of what stochastic samplers make: exactly, where the chain is linear, and of samples elsewhere.

For Gaussian data every step is affine in x and in its noise, so the mean and variance of the last x
follow without a random number. `distance` is a Kolmogorov distance with a proven false-alarm rate
(1e-5 at `threshold`, and the seeds are fixed); the power tests say what it would catch.
"""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers import (
    DOUBLE,
    SAMPLERS,
    SCHEDULES,
    STOCHASTIC,
    close,
    defaults,
    distance,
    every_sampler,
    every_schedule,
    mixture,
    named,
    noise_from,
    randn,
    seeded,
    slope,
    threshold,
)

from reverie.exact import Gaussian
from reverie.grids import LogSNR
from reverie.samplers import DDIM, Ancestral, Heun
from reverie.sampling import generate, prior
from reverie.schedules import Schedule
from reverie.tensors import host

N, STEPS = 4000, 120
MEAN = torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE)
PAIRS = [(0.9, 0.85), (0.5, 0.1), (0.97, 0.02), (0.31, 0.3), (0.4, 0.0)]


def affine(f, sampler, t, s):
    """offset, factor on x and factor on z of one step for independent Gaussian data."""
    x, z = (torch.tensor(v, dtype=DOUBLE)[:, None].expand(3, len(MEAN)) for v in ([0, 1, 0], [0, 0, 1]))
    offset, on_x, on_z = sampler.step(f, x, t, s, None, lambda like: z, sampler.init())[0]
    return offset, on_x - offset, on_z - offset


def law(f, sampler, times, scale=1.0):
    """Mean and variance of `generate` with x_1 from the data's own law at times[0]."""
    a, b = f.schedule.alpha(times[0]), f.schedule.sigma(times[0])
    mean, var = a * f.means[0], a**2 * f.stds[0] ** 2 + b**2
    for t, s in pairwise(times):
        offset, on_x, on_z = affine(f, sampler, t, s)
        mean, var = offset + on_x * mean, on_x**2 * var + (scale * on_z) ** 2
    return mean, var


@pytest.mark.parametrize("sampler", **named(**{k: v for k, v in SAMPLERS.items() if getattr(v, "fraction", 0) == 0}))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_one_step_is_exact_when_the_data_are_a_point(schedule, sampler):
    # Then x0 is known, and x_s must be N(alpha_s x0, sigma_s^2) whatever the size of the step.
    f = Gaussian(schedule, MEAN, 0.0)
    for t, s in PAIRS:
        t, s = host(t), host(s)
        mean, var = law(f, sampler, torch.stack([t, s]))
        assert close(mean, schedule.alpha(s) * MEAN, 1e-10)
        assert close(var, (schedule.sigma(s) ** 2).expand(3), 1e-10)


@pytest.mark.parametrize("name", ["cosine", "linear_vp", "table", "table_cosine", "table_zero_snr"])
def test_the_upper_variance_is_exact_when_the_data_are_standard_normal(name):
    f = Gaussian(SCHEDULES[name], 0 * MEAN, 1.0)
    for t, s in PAIRS[:-1]:
        var = law(f, Ancestral(1.0), torch.tensor([t, s], dtype=DOUBLE))[1]
        assert close(var, torch.ones(3), 1e-10)


@pytest.mark.parametrize("sampler", **every_sampler)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_moments_of_gaussian_data_are_reached_at_the_order_of_the_steps(schedule, sampler):
    f, errors, wrong = Gaussian(schedule, MEAN, torch.tensor([0.8, 0.5, 1.2], dtype=DOUBLE)), [], []
    for steps in (60, 120):
        times = LogSNR(steps, 1e-3, 80.0)(schedule)
        if getattr(sampler, "churn", 0) > 0:
            sampler = replace(sampler, churn=12 / steps)  # S_churn / N
        for scale, kept in ((1.0, errors), (0.8, wrong)):
            mean, var = law(f, sampler, times, scale)
            kept.append(float(max((mean - MEAN).abs().max(), (var.sqrt() - f.stds[0]).abs().max())))
    assert slope(errors) > sampler.order - 0.2
    assert errors[-1] < 0.07
    if not sampler.deterministic:  # and to something else, were the noise 0.8 of what it should be
        assert min(wrong) > 0.1
        assert slope(wrong) < 0.5


@pytest.mark.parametrize("sampler", **named(**STOCHASTIC))
@pytest.mark.parametrize("schedule", **named(**defaults(Schedule)))
def test_samples_have_the_law_of_a_mixture(schedule, sampler):
    assert distance(sampled(schedule, sampler), mixture(schedule)) < threshold(N)


@pytest.mark.parametrize("sampler", **named(**STOCHASTIC))
@pytest.mark.parametrize("name", ["ve", "flow"])
def test_the_comparison_would_see_noise_of_a_wrong_size(name, sampler):
    assert distance(sampled(SCHEDULES[name], sampler, scale=0.8), mixture(SCHEDULES[name])) > threshold(N)


def sampled(schedule, sampler, scale=1.0):
    noise = noise_from(seeded(3))
    times = LogSNR(STEPS, 0.01, 80.0)(schedule)
    x = prior(schedule, times[0], torch.zeros(N, 2, dtype=DOUBLE), noise)
    return generate(mixture(schedule), sampler, times, x, noise=lambda like: scale * noise(like))


def test_the_comparison_accepts_the_mixture_itself_and_sees_its_neighbours():
    f = mixture(SCHEDULES["flow"])
    x = f.sample(N, seeded(1))
    assert distance(x, f) < threshold(N)
    assert distance(0.9 * x, f) > threshold(N)
    assert distance(x + 0.1, f) > threshold(N)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_ddim_with_eta_one_is_ancestral_with_the_lower_variance(schedule):
    f, z, x = mixture(schedule), randn(5, 2, seed=3), randn(5, 2)
    for t, s in PAIRS:
        steps = [p.step(f, x, host(t), host(s), None, lambda l: z, None)[0] for p in (DDIM(1.0), Ancestral(0.0))]
        assert close(*steps, 1e-9)


def test_the_last_ancestral_step_draws_no_noise():
    def refuse(like):
        raise AssertionError("noise was drawn")

    f, x = mixture(SCHEDULES["flow"]), randn(5, 2)
    Ancestral(1.0).step(f, x, host(0.3), host(0.0), None, refuse, None)
    with pytest.raises(AssertionError, match="noise was drawn"):
        Ancestral(1.0).step(f, x, host(0.3), host(0.1), None, refuse, None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ancestral(-0.01),
        lambda: Ancestral(1.01),
        lambda: DDIM(-0.01),
        lambda: DDIM(1.01),
        lambda: Heun(-0.01),
        lambda: Heun(0.42),
        lambda: Heun(0.1, noise_scale=-0.1),
    ],
)
def test_settings_that_make_no_sampler_are_refused(make):
    with pytest.raises(ValueError, match="needs"):
        make()


def test_settings_at_the_edge_are_taken():
    assert Heun(2**0.5 - 1, noise_scale=0.0).churn_low == 0
    assert Heun().churn_high == 1e9
    assert Heun().noise_scale == 1
    assert Ancestral() == Ancestral(0.0)
    assert Ancestral(1.0) != DDIM(1.0)
    assert DDIM() == DDIM(0.0)
    assert [s.deterministic for s in (Ancestral(), Ancestral(1.0), DDIM(), DDIM(0.1), Heun(), Heun(0.1))] == [
        False, False, True, False, True, False,
    ]  # fmt: skip
