"""Annealed Langevin dynamics: the published algorithm, and the law it has in the limit of many steps a level."""

import math

import pytest
import torch
from helpers import DOUBLE, close, distance, every_schedule, mixture, noise_from, randn, seeded, slope, threshold
from laws import chain, law

from reverie.exact import Gaussian, GaussianMixture
from reverie.grids import Karras, Knots, LogSNR, Uniform
from reverie.noise_levels import langevin_step, langevin_variance, level_ratio
from reverie.samplers import AnnealedLangevin
from reverie.samplers.langevin import langevin
from reverie.sampling import generate, prior
from reverie.schedules import VE, Cosine, Flow, Geometric, LinearVP, Shifted, SubVP, Table
from reverie.tensors import host

N = 2000
MEAN = torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE)
STD = torch.tensor([0.8, 0.5, 1.2], dtype=DOUBLE)


def test_it_is_algorithm_1_of_ncsnv2():
    schedule, steps, epsilon = Geometric(0.01, 8.0, levels=6), 3, 6.2e-6
    f, noise, x = mixture(schedule), noise_from(seeded(2)), 8 * randn(5, 2)
    sigmas = torch.logspace(math.log10(8.0), -2, 6, dtype=DOUBLE)
    expected = x
    for sigma in sigmas:
        size = epsilon * sigma**2 / sigmas[-1] ** 2
        t = schedule.time(-2 * sigma.log())
        for _ in range(steps):
            expected = expected + size * f(expected, t).score + (2 * size).sqrt() * noise(x)
    cleaned = expected + sigmas[-1] ** 2 * f(expected, t).score
    for denoise, last in ((False, expected), (True, cleaned)):
        sampler = AnnealedLangevin(steps, epsilon / 0.01**2, denoise)
        found = generate(f, sampler, Knots()(schedule), x, noise=noise_from(seeded(2)))
        assert close(found, last, 1e-9)


def test_the_step_of_ncsn():
    # Song & Ermon (2019), section 4.3: x + a / 2 score + sqrt(a) z with a = 2e-5 sigma^2 / 0.01^2, 100 times.
    sampler, a = AnnealedLangevin(100, 0.1), 2e-5 / 0.01**2
    q, z = mixture(VE())(randn(4, 2), host(0.5)), randn(4, 2, seed=1)
    sigma = q.level.sigma
    assert close(langevin(q, sampler.step_size, z), q.x + a / 2 * sigma**2 * q.score + math.sqrt(a) * sigma * z, 1e-12)


def test_without_a_step_size_it_is_that_of_technique_4():
    schedule = Geometric(0.01, 50.0, 232)
    ratio = 5000 ** (1 / 231)
    given = langevin_step(ratio, 5)
    assert given == pytest.approx(0.0618, rel=1e-3)  # epsilon = 6.2e-6, published for CIFAR-10
    f, x, times = mixture(schedule), 50 * randn(4, 2), Knots()(schedule)[200:]
    found = [
        generate(f, AnnealedLangevin(5, size), times, x, noise=noise_from(seeded(1)))
        for size in (None, given, 1.1 * given)
    ]
    assert close(found[0], found[1], 1e-6)  # also at the last level, which has none below it
    assert not close(found[0], found[2], 1e-3)
    one, same = (
        generate(f, AnnealedLangevin(5, size), times[-2:], x, noise=noise_from(seeded(1))) for size in (None, 0.1)
    )
    assert close(one, same, 1e-12)  # a level alone has no ratio


@pytest.mark.parametrize("schedule", **every_schedule)
def test_x_over_alpha_stays_from_level_to_level(schedule):
    f, x = mixture(schedule), randn(5, 2)
    t, s = host(0.7), host(0.4)
    still = AnnealedLangevin(1, 0.1)
    moved = langevin(f(x, t), 0.1, 0 * x)
    found = still.step(f, x, t, s, None, torch.zeros_like, None)[0]
    assert close(found / schedule.alpha(s), moved / schedule.alpha(t), 1e-11)


@pytest.mark.parametrize("steps", [1, 4])
def test_noise_on_a_point_has_the_variance_of_eq_4(steps):
    # At one level, from the next larger one: what techniques 2 and 4 of NCSNv2 are chosen by.
    schedule, ratio = Geometric(0.01, 50.0, 232), level_ratio(3072)
    f, size = Gaussian(schedule, MEAN, 0.0), langevin_step(ratio, steps)
    t, s = host(100 / 232), host(99 / 232)
    (one,) = chain(f, AnnealedLangevin(steps, size), torch.stack([t, s]), draws=steps)
    sigma = schedule.sigma(t)
    variance = one.factor**2 * (ratio * sigma) ** 2 + one.variance
    assert close(variance / sigma**2, langevin_variance(size, ratio, steps) * torch.ones_like(MEAN), 1e-11)
    assert close(one.offset + one.factor * MEAN, MEAN, 1e-12)


@pytest.mark.parametrize("schedule", [Geometric(0.01, 20.0, 40), VE(), LinearVP(), Shifted(SubVP(), 0.5)])
def test_the_law_is_reached_as_the_steps_at_a_level_grow(schedule):
    # What is left of the noise of a level is what Langevin steps have had no time to take off: order 1 in 1 / steps.
    f, errors, wrong = Gaussian(schedule, MEAN, STD), [], []
    for steps in (16, 32, 64):
        times = LogSNR(30, 0.01, 20.0)(schedule)
        maps = chain(f, AnnealedLangevin(steps, 0.1), times, draws=steps)
        for scale, kept in ((1.0, errors), (0.8, wrong)):
            mean, var = law(f, maps, times[0], scale)
            kept.append(float(max((mean - MEAN).abs().max(), (var.sqrt() - STD).abs().max())))
    assert slope(errors) > 0.8
    assert slope(errors[:2]) > 0.8
    assert errors[-1] < 0.03
    assert min(wrong) > 0.1


def test_a_level_keeps_its_law_up_to_the_order_of_the_step():
    # Gaussian data: x - m is multiplied by 1 - e sigma^2 / v, so its variance settles at 2 / (2 - e sigma^2 / v) v.
    schedule, t, errors = LinearVP(), host(0.4), []
    f = Gaussian(schedule, MEAN, STD)
    total = (schedule.alpha(t) * STD) ** 2 + schedule.sigma(t) ** 2
    for size in (0.1, 0.05, 0.025):
        maps = chain(f, AnnealedLangevin(1, size, denoise=False), torch.tensor([0.4, 0.4 - 1e-12], dtype=DOUBLE))
        mean, var = law(f, maps * 600, t)
        settled = 2 / (2 - size * schedule.sigma(t) ** 2 / total)
        assert close(mean, schedule.alpha(t) * MEAN, 1e-7)
        assert close(var, settled * total, 1e-6)
        errors.append(float((var / total - 1).max()))
    assert 0.9 < slope(errors) < 1.1
    assert errors[0] < 0.1 / (2 - 0.1)


@pytest.mark.parametrize(
    ("schedule", "times"),
    [
        (Geometric(0.01, 10.0, 40), Knots()),
        (Geometric(0.01, 10.0, 40), Uniform(40)),
        (LinearVP(), LogSNR(40, 0.01, 20.0)),
        (Flow(), Karras(40, 0.01, 20.0)),
        (Cosine(), LogSNR(40, 0.01, 20.0)),
        (SubVP(), LogSNR(40, 0.01, 20.0)),
        (Table(), Knots(1000, 25)),
    ],
    ids=lambda part: part.kind,
)
def test_samples_have_the_law_of_a_mixture(schedule, times):
    assert distance(sampled(schedule, times(schedule)), mixture(schedule)) < threshold(N)


def test_the_comparison_would_see_noise_of_a_wrong_size_and_steps_too_few():
    schedule = Geometric(0.01, 10.0, 40)
    times = Uniform(40)(schedule)
    assert distance(sampled(schedule, times, scale=0.8), mixture(schedule)) > threshold(N)
    assert distance(sampled(schedule, times, steps=1), mixture(schedule)) > threshold(N)


def sampled(schedule, times, scale=1.0, steps=20):
    noise = noise_from(seeded(4))
    x = prior(schedule, times[0], torch.zeros(N, 2, dtype=DOUBLE), noise)
    return generate(mixture(schedule), AnnealedLangevin(steps, 0.12), times, x, noise=lambda like: scale * noise(like))


def test_the_last_level_is_cleaned_or_left():
    schedule = VE(0.002, 80.0)
    f, x, t = mixture(schedule), randn(5, 2), host(0.4)
    stirred = langevin(f(x, t), 0.1, 1 + 0 * x)
    clean, left = (
        AnnealedLangevin(1, 0.1, denoise).step(f, x, t, host(0.0), None, torch.ones_like, None)[0]
        for denoise in (True, False)
    )
    assert close(clean, f(stirred, t).x0, 1e-12)
    assert close(left, stirred, 1e-12)


@pytest.mark.parametrize("denoise", [True, False])
def test_examples_at_the_end_and_others_in_one_batch(denoise):
    f, x, sampler = mixture(LinearVP()), randn(4, 2), AnnealedLangevin(3, 0.1, denoise)
    t = torch.tensor([0.5, 0.4, 0.3, 0.2], dtype=DOUBLE)
    s = torch.tensor([0.2, 0.0, 0.1, 0.0], dtype=DOUBLE)
    whole = sampler.step(f, x, t, s, None, torch.ones_like, None)[0]
    for i in range(4):
        one = sampler.step(f, x[i : i + 1], t[i], s[i], None, torch.ones_like, None)[0]
        assert close(whole[i], one[0], 1e-11)


def test_evaluations_a_level():
    seen = []

    class Counting(GaussianMixture):
        def __call__(self, x, t, cond=None):
            seen.append(round(float(t), 6))
            return super().__call__(x, t, cond)

    f = Counting(VE(), torch.zeros(1, 2, dtype=DOUBLE), 1.0)
    times = torch.tensor([1.0, 0.5, 0.0], dtype=DOUBLE)
    generate(f, AnnealedLangevin(2), times, randn(2, 2))
    assert seen == [1.0, 1.0, 0.5, 0.5, 0.5]
    seen.clear()
    generate(f, AnnealedLangevin(2, denoise=False), times, randn(2, 2))
    assert seen == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("settings", [{"steps": 0}, {"step_size": 0.0}, {"step_size": 2.0}, {"step_size": math.nan}])
def test_settings_that_make_no_sampler_are_refused(settings):
    with pytest.raises(ValueError, match="AnnealedLangevin needs"):
        AnnealedLangevin(**settings)
    AnnealedLangevin(1, 1.99)
