"""The samplers of Song et al. (2021): each step is the published one, where it is defined, and nowhere else."""

import math
from dataclasses import dataclass

import pytest
import torch
from helpers import (
    DOUBLE,
    SCHEDULES,
    close,
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

from reverie.exact import Gaussian
from reverie.grids import Karras, LogSNR, Uniform
from reverie.samplers import (
    DDIM,
    Ancestral,
    AnnealedLangevin,
    Corrected,
    EulerMaruyama,
    Heun,
    ReverseDiffusion,
    Sampler,
)
from reverie.samplers.langevin import langevin
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, Flow, LinearVP, Shifted, SubVP, Table
from reverie.tensors import host

T, S = host(0.7), host(0.65)
BOTH = (ReverseDiffusion(), EulerMaruyama())
X, Z = randn(5, 2, seed=1), randn(5, 2, seed=2)


def fixed(like):
    return Z


# ---------------------------------------------------------------------------- Euler-Maruyama


def test_euler_maruyama_on_the_published_sdes():
    h = T - S
    for schedule in (LinearVP(), SubVP()):
        f = mixture(schedule)
        beta = 0.1 + T * 19.9
        integral = 0.1 * T + 19.9 * T**2 / 2
        square = beta if isinstance(schedule, LinearVP) else beta * (1 - (-2 * integral).exp())
        drift = -beta / 2 * X - square * f(X, T).score
        expected = X - h * drift + (square * h).sqrt() * Z
        assert close(EulerMaruyama().step(f, X, T, S, None, fixed, None)[0], expected, 1e-11)
    ve = VE(0.01, 50.0, ramp=0.1)
    square = ve.sigma(T) ** 2 * 2 * math.log(5000) / 0.9
    expected = X + h * square * mixture(ve)(X, T).score + (square * h).sqrt() * Z
    assert close(EulerMaruyama().step(mixture(ve), X, T, S, None, fixed, None)[0], expected, 1e-11)


@pytest.mark.parametrize("sampler", [EulerMaruyama(), ReverseDiffusion(), Corrected(), Corrected(DDIM())])
def test_the_last_step_is_the_mean_of_the_data_and_draws_no_noise(sampler):
    def refuse(like):
        raise AssertionError("noise was drawn")

    f = mixture(LinearVP())
    assert close(sampler.step(f, X, T, host(0.0), None, refuse, None)[0], f(X, T).x0, 1e-12)
    with pytest.raises(AssertionError, match="noise was drawn"):
        sampler.step(f, X, T, S, None, refuse, None)


@pytest.mark.parametrize(
    "sampler", [EulerMaruyama(), ReverseDiffusion(), Corrected(), Corrected(EulerMaruyama(), 2, measured=True)]
)
def test_examples_at_the_end_and_others_in_one_batch(sampler):
    f = mixture(LinearVP())
    t = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1], dtype=DOUBLE)
    s = torch.tensor([0.2, 0.0, 0.1, 0.0, 0.09], dtype=DOUBLE)
    whole = sampler.step(f, X, t, s, None, fixed, None)[0]
    for i in range(5):
        one = sampler.step(f, X[i : i + 1], t[i], s[i], None, lambda like, i=i: Z[i : i + 1], None)[0]
        assert close(whole[i], one[0], 1e-11)


NO_SIGNAL = {"cosine": Cosine(), "flow": Flow(), "zero_snr": Table([0.5, 1.0]), "shifted": Shifted(Cosine(), 0.3)}


@pytest.mark.parametrize("sampler", [EulerMaruyama(), AnnealedLangevin(), Corrected(EulerMaruyama())])
@pytest.mark.parametrize("schedule", **named(**NO_SIGNAL))
def test_samplers_that_divide_by_alpha_refuse_to_start_where_it_is_zero(schedule, sampler):
    times = Uniform(4)(schedule)
    with pytest.raises(ValueError, match=rf"{type(schedule).__name__} has alpha = 0 at t = 1: .*grid\.start=0\.999"):
        sampler.check(schedule, times)
    with pytest.raises(ValueError, match="divides by alpha"):
        sampler.step(mixture(schedule), X, times[0], times[1], None, fixed, None)
    with pytest.raises(ValueError, match="divides by alpha"):
        sampler.step(mixture(schedule), X, torch.tensor([0.5, 0.4, 1.0, 0.3, 0.2]), host(0.1), None, fixed, None)
    for grid in (Uniform(4, 0.999), LogSNR(), Karras()):  # what the message proposes is taken
        sampler.check(schedule, grid(schedule))
        start = grid(schedule)[:2]
        assert sampler.step(mixture(schedule), X, *start, None, fixed, None)[0].isfinite().all()


@pytest.mark.parametrize(
    "sampler", [DDIM(), Heun(), Ancestral(), ReverseDiffusion(), Corrected(), Corrected(measured=True)]
)
def test_the_others_start_from_anything(sampler):
    for schedule in SCHEDULES.values():
        sampler.check(schedule, Uniform(4)(schedule))
        x = generate(mixture(schedule), sampler, Uniform(4)(schedule), X, noise=noise_from(seeded(1)))
        assert x.isfinite().all()
    for schedule in (LinearVP(), VE(), SubVP(), Table()):
        EulerMaruyama().check(schedule, Uniform(4)(schedule))


# -------------------------------------------------------------------------- reverse diffusion


def test_reverse_diffusion_on_the_chain_of_ddpm():
    table = Table.linear(20, 0.005, 0.6)
    f, beta = mixture(table), table.betas.values()[12]
    t, s = host(13 / 20), host(12 / 20)
    expected = (2 - (1 - beta).sqrt()) * X + beta * f(X, t).score + beta.sqrt() * Z
    assert close(ReverseDiffusion().step(f, X, t, s, None, fixed, None)[0], expected, 1e-11)


def test_reverse_diffusion_on_the_levels_of_ncsn():
    ve = VE()
    f, w = mixture(ve), ve.sigma(T) ** 2 - ve.sigma(S) ** 2
    expected = X + w * f(X, T).score + w.sqrt() * Z
    assert close(ReverseDiffusion().step(f, X, T, S, None, fixed, None)[0], expected, 1e-11)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_reverse_diffusion_is_euler_maruyama_up_to_the_second_order(schedule):
    f, off, t = mixture(schedule), [], 0.5208  # and the steps stay between two knots of the tables
    for h in (4e-4, 2e-4, 1e-4):
        steps = (p.step(f, X, host(t), host(t - h), None, torch.zeros_like, None)[0] for p in BOTH)
        off.append(float(torch.sub(*steps).abs().max()))
    assert slope(off) > 1.9


# ---------------------------------------------------------------------------------- corrected


@pytest.mark.parametrize("predictor", [DDIM(), EulerMaruyama(), Ancestral(), Heun()])
@pytest.mark.parametrize("schedule", [VE(), LinearVP(), SubVP()])
def test_a_corrector_step_by_hand(schedule, predictor):
    f, r = mixture(schedule), 0.2
    found = Corrected(predictor, 2, r).step(f, X, T, S, None, noise_from(seeded(3)), None)[0]
    noise = noise_from(seeded(3))
    expected = predictor.step(f, X, T, S, None, noise, None)[0]
    for _ in range(2):
        epsilon = 2 * (r * schedule.sigma(S)) ** 2
        expected = expected + epsilon * f(expected, S).score + (2 * epsilon).sqrt() * noise(X)
    assert close(found, expected, 1e-11)


@pytest.mark.parametrize("schedule", [VE(), LinearVP()])
def test_measured_steps_are_algorithm_4_with_the_norms_of_each_example(schedule):
    f, r = Gaussian(schedule, torch.linspace(-1, 1, 40, dtype=DOUBLE), 0.3), 0.16
    x, z = randn(4, 40, seed=1) * schedule.sigma(S), randn(4, 40, seed=2)
    found = Corrected(DDIM(), 1, r, measured=True).step(f, x, T, S, None, lambda like: z, None)[0]
    start = DDIM().step(f, x, T, S, None, torch.zeros_like, None)[0]
    for i in range(4):
        g = f(start, S).score[i]
        epsilon = 2 * (r * z[i].norm() / g.norm()) ** 2
        assert epsilon < schedule.sigma(S) ** 2
        assert close(found[i], start[i] + epsilon * g + (2 * epsilon).sqrt() * z[i], 1e-11)


def test_measured_steps_are_bounded_where_the_score_vanishes():
    f = Gaussian(VE(), torch.zeros(2, dtype=DOUBLE), 1.0)
    x, z = torch.full((1, 2), 1e-9, dtype=DOUBLE), torch.ones(1, 2, dtype=DOUBLE)
    sigma = VE().sigma(S)
    corrected = Corrected(DDIM(), 1, 0.16, measured=True).step(f, x, T, S, None, lambda like: z, None)[0]
    assert close(corrected, math.sqrt(2) * sigma * z, 1e-6)


def test_measured_steps_favour_large_scores_by_what_is_said():
    # Gaussian data in D dimensions: the variance settles at (1 + 2 / D)^2 times its own, with steps as small as these.
    d, t = 10, host(0.5)
    f, noise = Gaussian(LinearVP(), torch.zeros(d, dtype=DOUBLE), 0.0), noise_from(seeded(6))
    sigma = LinearVP().sigma(t)
    x = sigma * randn(4000, d)
    sampler = Corrected(DDIM(), 1, 0.12, measured=True)
    for _ in range(300):
        q, z = f(x, t), noise(x)
        x = langevin(q, sampler._size(q, z), z)
    measured = float((x / sigma).square().mean())
    assert measured == pytest.approx((1 + 2 / d) ** 2, rel=0.03)  # the step's own e / 2, and five deviations


@pytest.mark.parametrize("schedule", [VE(0.01, 10.0), LinearVP(), Flow(), Shifted(SubVP(), 2.0)])
def test_the_corrector_leaves_the_law_of_its_level_alone(schedule):
    n, f, s = 4000, mixture(schedule), host(0.7)
    a, b = schedule.alpha(s), schedule.sigma(s)
    level = mixture(schedule)
    level.means, level.stds = a * f.means, ((a * f.stds) ** 2 + b**2).sqrt()  # a mixture again
    noise = noise_from(seeded(7))
    x = a * f.sample(n, seeded(8)) + b * noise(torch.zeros(n, 2, dtype=DOUBLE))
    assert distance(x, level) < threshold(n)
    for snr, kept in ((0.05, True), (0.9, False)):
        y = x
        for _ in range(100):
            y = langevin(f(y, s), 2 * snr**2, noise(y))
        assert (distance(y, level) < threshold(n)) is kept


def test_a_corrector_asks_nothing_of_the_data_and_hands_the_state_on():
    seen = []

    @dataclass(frozen=True)
    class Remembering(Sampler):
        def init(self):
            return 7

        def step(self, f, x, t, s, cond, noise, state):
            return f(x, t, cond).x0, state + 1

    class Watched:
        schedule = VE()

        def __call__(self, x, t, cond=None):
            seen.append((float(t), cond))
            return mixture(VE())(x, t)

    sampler = Corrected(Remembering(), steps=2)
    assert sampler.init() == 7
    x, state = sampler.step(Watched(), X, T, S, "cond", fixed, sampler.init())
    assert state == 8
    assert seen == [(float(T), "cond"), (float(S), "cond"), (float(S), "cond")]
    seen.clear()
    assert sampler.step(Watched(), x, S, host(0.0), None, fixed, state)[1] == 9
    assert seen == [(float(S), None)]
    assert not sampler.deterministic


@pytest.mark.parametrize("settings", [{"steps": 0}, {"snr": 0.0}, {"snr": 1.0}, {"snr": math.nan}])
def test_settings_that_make_no_sampler_are_refused(settings):
    with pytest.raises(ValueError, match="Corrected needs"):
        Corrected(**settings)
    assert Corrected() == Corrected(ReverseDiffusion(), 1, 0.16, False)
