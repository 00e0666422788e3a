import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, mixture, named, randn, seeded, slope

from reverie.schedules import VE, Cosine, Flow, Geometric, LinearVP, Shifted, SubVP, Table
from reverie.sde import SDE, sde
from reverie.tensors import host

PROCESSES = {
    **SCHEDULES,
    "shifted_cosine": Shifted(Cosine(), 2.0),
    "shifted_sub_vp": Shifted(SubVP(), 0.5),
    "shifted_table": Shifted(Table(), 3.0),
}
every_process = named(**PROCESSES)
T = torch.tensor([2e-4, 0.0123, 0.1003, 0.2503, 0.5003, 0.7777, 0.9003], dtype=DOUBLE)


# ------------------------------------------------------------------------------ published pairs


@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (0.5, 3.0), (2.0, 2.0)])
def test_variance_preserving(low, high):
    x, beta = randn(len(T), 3), low + T * (high - low)
    process = sde(LinearVP(low, high))
    assert close(process.drift(x, T), -beta[:, None] / 2 * x, 1e-12)
    assert close(process.diffusion(T), beta.sqrt(), 1e-10)


@pytest.mark.parametrize(("low", "high"), [(0.1, 20.0), (0.5, 3.0)])
def test_sub_variance_preserving(low, high):
    x, beta = randn(len(T), 3), low + T * (high - low)
    integral = low * T + (high - low) * T**2 / 2
    process = sde(SubVP(low, high))
    assert close(process.drift(x, T), -beta[:, None] / 2 * x, 1e-12)
    assert close(process.diffusion(T), (beta * -torch.expm1(-2 * integral)).sqrt(), 1e-10)


@pytest.mark.parametrize("schedule", [VE(0.01, 50.0, 1e-3), Geometric(0.01, 50.0, 1000)])
def test_variance_exploding(schedule):
    # Song et al. (2021), eq. 30, in the time u that runs from `low` at 0 to `high` at 1.
    x, t = randn(len(T) - 1, 3), T[1:]
    u = (t - 1e-3) / (1 - 1e-3)
    g = 0.01 * 5000**u * math.sqrt(2 * math.log(5000) / (1 - 1e-3))
    assert close(sde(schedule).drift(x, t), 0 * x, 0)
    assert close(sde(schedule).diffusion(t), g, 1e-10)
    below = torch.tensor([1e-4, 7e-4], dtype=DOUBLE)  # sigma = 10 t: d sigma^2 / dt = 200 t
    assert close(sde(schedule).diffusion(below), (200 * below).sqrt(), 1e-10)


def test_flow():
    # alpha' / alpha = -1 / (1 - t), and g^2 = 2 t + 2 t^2 / (1 - t).
    assert close(sde(Flow()).drift(randn(7, 1), T), -randn(7, 1) / (1 - T[:, None]), 1e-12)
    assert close(sde(Flow()).diffusion(T) ** 2, 2 * T / (1 - T), 1e-10)


@pytest.mark.parametrize("schedule", **every_process)
def test_moments_solve_the_equations_of_the_linear_sde(schedule):
    # d alpha / dt = f alpha and d sigma^2 / dt = 2 f sigma^2 + g^2, the left sides by central differences.
    h = (T / 1000).clamp(max=1e-5)
    rate = sde(schedule).drift(torch.ones(len(T), 1, dtype=DOUBLE), T).flatten()
    square = sde(schedule).diffusion(T) ** 2

    def derivative(f):
        return (8 * (f(T + h) - f(T - h)) - (f(T + 2 * h) - f(T - 2 * h))) / (12 * h)

    assert close(derivative(schedule.alpha), rate * schedule.alpha(T), 1e-7)
    variance = schedule.sigma(T) ** 2
    assert close(derivative(lambda t: schedule.sigma(t) ** 2), 2 * rate * variance + square, 1e-6)


@pytest.mark.parametrize("schedule", **every_process)
def test_g_squared_is_the_fall_of_the_log_snr(schedule):
    # Kingma et al. (2021): g^2 = -sigma^2 d log-SNR / dt.
    da, db = schedule.rates(T)
    fall = 2 * (db / schedule.sigma(T) - da / schedule.alpha(T))
    assert close(sde(schedule).diffusion(T) ** 2 / (schedule.sigma(T) ** 2 * fall), torch.ones_like(T), 1e-10)


# ------------------------------------------------------------------------------ running it


@pytest.mark.parametrize("schedule", **every_process)
def test_the_flow_ode_is_the_velocity_of_the_prediction(schedule):
    f, x = mixture(schedule), randn(len(T), 2)
    q = f(x, T)
    da, db = (r[:, None] for r in schedule.rates(T))
    assert close(sde(schedule).flow_drift(x, T, q.score), q.flow((da, db)), 1e-9)
    half = (sde(schedule).drift(x, T) + sde(schedule).reverse_drift(x, T, q.score)) / 2
    assert close(sde(schedule).flow_drift(x, T, q.score), half, 1e-12)
    square = (sde(schedule).diffusion(T) ** 2)[:, None]
    assert close(sde(schedule).reverse_drift(x, T, q.score), sde(schedule).drift(x, T) - square * q.score, 1e-12)


def steps_of(schedule, n):
    """n steps, in the middle of which drift and diffusion are taken: to t = 1, or before f grows without bound."""
    end = 0.9 if schedule.alpha(host(1.0)) < 1e-3 else 1.0
    edges = torch.linspace(0, end, n + 1, dtype=DOUBLE)
    return (edges[1:] + edges[:-1]) / 2, end / n, edges[-1]


@pytest.mark.parametrize("schedule", **every_process)
def test_moments_of_the_simulated_sde_converge_to_the_schedule(schedule):
    # Its Euler-Maruyama steps are linear, so mean and variance from a point follow without a random number.
    errors = []
    for n in (1000, 2000, 4000):
        middle, h, end = steps_of(schedule, n)
        rate = 1 + h * sde(schedule).drift(torch.ones(n, 1, dtype=DOUBLE), middle).flatten()
        square = h * sde(schedule).diffusion(middle) ** 2
        after = rate.flip(0).cumprod(0).flip(0)  # what is left at the end of what is there before each step
        mean = after[0]
        variance = (square * (after / rate) ** 2).sum()
        off = torch.stack([mean - schedule.alpha(end), (variance.sqrt() - schedule.sigma(end)) / schedule.sigma(end)])
        errors.append(float(off.abs().max()))
    assert errors[-1] < 2e-3
    assert slope(errors) > 0.8


@pytest.mark.parametrize("schedule", **every_process)
def test_the_simulated_sde_has_the_marginals_of_the_schedule(schedule):
    # Two points, 10,000 paths of 1000 steps. Five standard deviations of mean and variance (normal data), at false
    # alarm 6e-7 for each of four numbers a process (4e-5 in all), and 0.5 % and 1 % for the steps.
    n, x0, generator = 10_000, torch.tensor([1.5, -0.5], dtype=DOUBLE), seeded(1)
    x = x0.expand(n, 2)
    middle, h, end = steps_of(schedule, 1000)
    rates, roots = sde(schedule).coefficients(middle)[0].tolist(), sde(schedule).diffusion(middle).tolist()
    for rate, root in zip(rates, roots, strict=True):
        x = x + h * rate * x + math.sqrt(h) * root * torch.randn(n, 2, dtype=DOUBLE, generator=generator)
    alpha, sigma = schedule.alpha(end), schedule.sigma(end)
    assert ((x.mean(0) - alpha * x0).abs() < 5 * sigma / math.sqrt(n) + 0.005 * (alpha + sigma)).all()
    assert ((x.var(0) / sigma**2 - 1).abs() < 5 * math.sqrt(2 / n) + 0.01).all()


# ------------------------------------------------------------------------------------- shapes


def test_one_time_or_one_for_each_example():
    process, x = sde(SubVP()), randn(3, 3)
    score = randn(3, 3, seed=1)
    t = torch.tensor([0.2, 0.5, 0.9])
    assert process.diffusion(t).shape == (3,)
    assert process.diffusion(0.5).shape == ()
    assert close(process.diffusion(0.5), process.diffusion(t)[1], 1e-7)
    for i in range(3):
        one = slice(i, i + 1)
        for whole, single in (
            (process.drift(x, t), process.drift(x[one], t[i])),
            (process.reverse_drift(x, t, score), process.reverse_drift(x[one], t[i], score[one])),
            (process.flow_drift(x, t, score), process.flow_drift(x[one], t[i], score[one])),
        ):
            assert close(whole[one], single, 1e-13)
    assert process.drift(x.float(), t).dtype == torch.float32
    assert process.diffusion(t).dtype == DOUBLE


@pytest.mark.parametrize("schedule", [Cosine(), Flow(), Table([0.5, 1.0])])
def test_pure_noise_is_reached_by_an_unbounded_sde(schedule):
    assert sde(schedule).diffusion(1.0) == math.inf
    assert sde(schedule).coefficients(1.0)[0] == -math.inf
    assert sde(schedule).diffusion(host(1 - 1e-9)).isfinite()
    assert SDE(schedule) == sde(schedule)
