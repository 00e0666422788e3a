"""The law of what stochastic samplers make: exactly, where the chain is linear, and of samples elsewhere.

For Gaussian data the mean and variance of the last x follow without a random number (`laws`).
`distance` is a Kolmogorov distance with a proven false-alarm rate (1e-5 at `threshold`, and the seeds
are fixed); the power tests say what it would catch. Annealed Langevin dynamics, whose law is right in
the limit of many steps at a level, has tests of its own in test_langevin.py.
"""

from dataclasses import replace

import pytest
import torch
from helpers import (
    DOUBLE,
    SAMPLERS,
    SCHEDULES,
    close,
    defaults,
    distance,
    every_schedule,
    mixture,
    named,
    noise_from,
    randn,
    seeded,
    slope,
    threshold,
)
from laws import chain, law

from reverie.exact import Gaussian
from reverie.grids import LogSNR
from reverie.samplers import (
    DDIM,
    Adaptive,
    Ancestral,
    AnnealedLangevin,
    Consistency,
    Corrected,
    EulerMaruyama,
    Heun,
    Picard,
    Restart,
    ReverseDiffusion,
)
from reverie.samplers.multistep import Multistep
from reverie.sampling import generate, prior
from reverie.schedules import Schedule
from reverie.tensors import host

N, STEPS = 2000, 80
MEAN = torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE)
APART = (AnnealedLangevin, Multistep, Restart, Consistency, Adaptive, Picard)
"""Their laws are tested elsewhere: by whole runs, as they look back over several steps or choose their own."""
ANCESTORS = {k: v for k, v in SAMPLERS.items() if not isinstance(v, APART)}
ANCESTORS["corrected_ddim"] = Corrected(DDIM(), steps=2)
EXACT = {
    k: v
    for k, v in ANCESTORS.items()
    if not isinstance(v, EulerMaruyama | ReverseDiffusion | Corrected) and getattr(v, "fraction", 0) == 0
}
"""Samplers that use x0, not the slope at t."""
PAIRS = [(0.9, 0.85), (0.5, 0.1), (0.97, 0.02), (0.31, 0.3), (0.4, 0.0)]


def made_finer(sampler, steps):
    """The sampler whose other errors shrink with the step: S_churn / N, a corrector's r^2 ~ 1 / N."""
    if isinstance(sampler, Heun) and sampler.churn > 0:
        return replace(sampler, churn=12 / steps)
    return replace(sampler, snr=(3 / steps) ** 0.5) if isinstance(sampler, Corrected) else sampler


@pytest.mark.parametrize("sampler", **named(**EXACT))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_one_step_is_exact_when_the_data_are_a_point(schedule, sampler):
    # Then x0 is known, and x_s must be N(alpha_s x0, sigma_s^2) whatever the size of the step.
    f = Gaussian(schedule, MEAN, 0.0)
    for t, s in PAIRS:
        t, s = host(t), host(s)
        mean, var = law(f, chain(f, sampler, torch.stack([t, s])), t)
        assert close(mean, schedule.alpha(s) * MEAN, 1e-10)
        assert close(var, (schedule.sigma(s) ** 2).expand(3), 1e-10)


@pytest.mark.parametrize("name", ["cosine", "linear_vp", "table", "table_cosine", "table_zero_snr"])
def test_the_upper_variance_is_exact_when_the_data_are_standard_normal(name):
    f = Gaussian(SCHEDULES[name], 0 * MEAN, 1.0)
    for t, s in PAIRS[:-1]:
        var = law(f, chain(f, Ancestral(1.0), host(torch.tensor([t, s]))), host(t))[1]
        assert close(var, torch.ones(3), 1e-10)


@pytest.mark.parametrize("sampler", **named(**ANCESTORS))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_moments_of_gaussian_data_are_reached_at_the_order_of_the_steps(schedule, sampler):
    f, errors, wrong = Gaussian(schedule, MEAN, torch.tensor([0.8, 0.5, 1.2], dtype=DOUBLE)), [], []
    fine = sampler == EulerMaruyama()  # it feels the knots of a short chain
    for steps in (120, 240) if fine else (60, 120):
        times = LogSNR(steps, 1e-3, 80.0)(schedule)
        maps = chain(f, made_finer(sampler, steps), times)
        for scale, kept in ((1.0, errors), (0.8, wrong)):
            mean, var = law(f, maps, times[0], scale)
            kept.append(float(max((mean - MEAN).abs().max(), (var.sqrt() - f.stds[0]).abs().max())))
    assert slope(errors) > sampler.order - 0.2
    assert errors[-1] < 0.07
    if not sampler.deterministic:  # and to something else, were the noise 0.8 of what it should be
        assert min(wrong) > 0.1
        assert slope(wrong) < 0.5


@pytest.mark.parametrize("sampler", **named(**ANCESTORS))
@pytest.mark.parametrize("schedule", **named(**defaults(Schedule)))
def test_samples_have_the_law_of_a_mixture(schedule, sampler):
    assert distance(sampled(schedule, sampler), mixture(schedule)) < threshold(N)


@pytest.mark.parametrize("sampler", **named(**{k: v for k, v in ANCESTORS.items() if not v.deterministic}))
@pytest.mark.parametrize("name", ["ve", "flow"])
def test_the_comparison_would_see_noise_of_a_wrong_size(name, sampler):
    assert distance(sampled(SCHEDULES[name], sampler, scale=0.7), mixture(SCHEDULES[name])) > threshold(N)


def sampled(schedule, sampler, scale=1.0):
    noise = noise_from(seeded(3))
    times = LogSNR(STEPS, 0.02, 30.0)(schedule)
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
        lambda: Heun(0.1, noise_scale=float("nan")),
        lambda: Heun(0.1, churn_low=2.0, churn_high=1.0),
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
