"""Restart sampling: its law on Gaussian data, and the errors it takes back."""

from itertools import pairwise

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, every_schedule, gaussian, mixture, noise_from, randn, seeded, slope
from laws import chain, law

from reverie.brownian import paths
from reverie.conditioning import Cond
from reverie.config import from_data, to_data
from reverie.exact import Gaussian
from reverie.grids import Karras, LogSNR, Uniform
from reverie.samplers import DDIM, DPMSolverPPSDE, Heun, Sampler
from reverie.samplers.restart import Restart
from reverie.samplers.runge_kutta import RK4
from reverie.sampling import generate, prior, trajectory
from reverie.schedules import VE, Cosine, Flow, LinearVP, Table
from reverie.tensors import host


def off(f, sampler, times):
    """How far mean and standard deviation are from those of the data."""
    mean, var = law(f, chain(f, sampler, times, draws=8), times[0])
    return float(max((mean - f.means[0]).abs().max(), (var.sqrt() - f.stds[0]).abs().max()))


@pytest.mark.parametrize("schedule", **every_schedule)
def test_moments_of_gaussian_data_are_reached_at_the_order_of_the_solver(schedule):
    f = gaussian(schedule)
    errors = [
        off(f, Restart(Heun(), 0.1, 2.0, repeats=3, steps=steps // 4), LogSNR(steps, 1e-3, 80.0)(schedule))
        for steps in (40, 80, 160)
    ]
    assert slope(errors) > 1.6
    assert errors[-1] < 0.01


def test_noise_of_a_wrong_size_would_be_seen():
    f, times = gaussian(Flow()), LogSNR(100, 1e-3, 80.0)(Flow())
    maps = chain(f, Restart(Heun(), 0.1, 2.0, repeats=3, steps=25), times, draws=8)
    _, var = law(f, maps, times[0], 0.8)
    assert (var.sqrt() / f.stds[0] - 1).abs().min() > 0.1


@pytest.mark.parametrize("schedule", **every_schedule)
def test_each_repeat_draws_two_samples_together_by_the_flows_own_factor(schedule):
    # y = x / alpha: on the way up a difference stays, on the way down it shrinks as the standard deviation of y does.
    f, low, high = gaussian(schedule), 0.1, 1.0
    std = f.stds[0]
    interval = Restart(RK4(), low, high, steps=20).interval(schedule)
    apart = []
    for repeats in (1, 2, 3):
        x = torch.stack([torch.zeros(3, dtype=DOUBLE), torch.ones(3, dtype=DOUBLE)])
        sampler = Restart(RK4(), low, high, repeats, 20)
        found, _ = sampler.step(f, x, interval[-2], interval[-1], None, torch.zeros_like, sampler.init())
        apart.append(found[1] - found[0])
    factor = ((std**2 + low**2) / (std**2 + high**2)).sqrt()
    for first, second in pairwise(apart):
        assert close(second / first, factor, 1e-3)


@pytest.mark.parametrize("name", ["ve", "linear_vp", "cosine"])
def test_it_takes_back_the_errors_of_a_coarse_solver(name):
    f, times = gaussian(SCHEDULES[name]), LogSNR(12, 0.02, 80.0)(SCHEDULES[name])
    errors = [off(f, Restart(DDIM(), 0.05, 1.0, repeats, 30), times) for repeats in (1, 2, 4)]
    assert errors[0] < 0.8 * off(f, DDIM(), times)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("schedule", [VE(), LinearVP(), Cosine(), Table()], ids=lambda s: s.kind)
def test_it_is_algorithm_1_of_its_paper(schedule):
    f, x, low, high = mixture(schedule), randn(4, 2), 0.2, 1.5
    times, solver = LogSNR(8, 0.01, 20.0)(schedule), DDIM()
    noise = noise_from(seeded(3))
    found = generate(f, Restart(solver, low, high, 2, 4), times, x, noise=noise_from(seeded(3)))
    interval = Karras(5, low, high)(schedule)[:-1]
    at = interval[-1]
    x = generate(f, solver, torch.cat([times[times > at], at[None]]), x)
    for _ in range(2):
        ratio = schedule.alpha(interval[0]) / schedule.alpha(at)
        added = (schedule.sigma(interval[0]) ** 2 - (ratio * schedule.sigma(at)) ** 2).sqrt()
        x = generate(f, solver, interval, ratio * x + added * noise(x))
    assert close(found, generate(f, solver, torch.cat([at[None], times[times < at]]), x), 1e-10)


@pytest.mark.parametrize("repeats", [1, 3])
def test_a_brownian_path_is_followed_once(repeats):
    # The way back down takes noise of its own: that of the path has brought x to low, and is in it. The standard
    # deviation of 16,000 numbers varies by 0.0017; taking the path's again adds 0.02 and more.
    f = Gaussian(VE(), torch.zeros(32, dtype=DOUBLE), 0.3)
    times, like, noise = Karras(60)(VE()), torch.empty(500, 32, dtype=DOUBLE), paths(range(500))
    sampler = Restart(DPMSolverPPSDE(), 0.06, 1.0, repeats, 30)
    x = generate(f, sampler, times, prior(VE(), times[0], like, noise), noise=noise)
    assert abs(float(x.std()) - 0.3) < 0.012


def test_a_grid_that_stops_at_low_and_one_that_never_passes_it():
    f, x, sampler = mixture(Flow()), randn(3, 2), Restart(Heun(), 0.5, 2.0)
    at = sampler.interval(Flow())[-1]
    times = torch.stack([host(0.9), at, at / 2, 0 * at])
    draws = [0]

    def noise(like):
        draws[0] += 1
        return torch.ones_like(like)

    counts = []
    for _ in trajectory(f, sampler, times, x, noise=noise):
        counts.append(draws[0])
    assert counts == [2, 2, 2]
    below = torch.stack([at, at / 2, 0 * at])
    assert close(generate(f, sampler, below, x, noise=noise), generate(f, Heun(), below, x), 1e-12)
    assert draws == [2]


def test_examples_at_levels_of_their_own():
    f, x, sampler = mixture(Cosine()), randn(4, 2), Restart(Heun(), 0.2, 1.0)
    t, s = torch.tensor([0.9, 0.1, 0.5, 0.05]).double(), torch.tensor([0.5, 0.05, 0.0, 0.0]).double()
    z = randn(4, 2, seed=7)
    cond = Cond(label=torch.arange(4))
    together, _ = sampler.step(f, x, t, s, cond, lambda like: z, sampler.init())
    for i in range(4):
        row = slice(i, i + 1)
        alone, _ = sampler.step(f, x[row], t[i], s[i], cond[row], lambda like, row=row: z[row], sampler.init())
        assert close(together[row], alone, 1e-12)


def test_one_inside_another_serves_two_intervals():
    f, x, times = mixture(Cosine()), randn(3, 2), Uniform(10)(Cosine())
    upper, lower = Restart(Heun(), 1.0, 4.0, 1, 3), Restart(Heun(), 0.1, 0.3, 1, 3)
    draws = [0]

    def noise(like):
        draws[0] += 1
        return torch.ones_like(like)

    generate(f, Restart(lower, 1.0, 4.0, 1, 3), times, x, noise=noise)
    assert draws == [2]
    generate(f, upper, times, x, noise=noise)
    assert draws == [3]


@pytest.mark.parametrize(
    "settings", [{"low": 0.0}, {"low": 0.3, "high": 0.3}, {"repeats": 0}, {"steps": 0}, {"high": float("nan")}]
)
def test_settings_that_make_no_sampler_are_refused(settings):
    with pytest.raises(ValueError, match="Restart needs"):
        Restart(**settings)


def test_an_interval_that_the_schedule_does_not_reach():
    short = Table((0.1, 0.2))
    with pytest.raises(ValueError, match=r"up from sigma / alpha = 2, and Table reaches 0\.6"):
        generate(mixture(short), Restart(low=2.0, high=3.0), Uniform(3)(short), randn(2, 2))
    assert close(Restart(low=0.1, high=3.0).interval(short)[0], 1.0, 1e-12)  # lowered to what there is


def test_round_trip():
    made = Restart(DDIM(), 0.1, 0.5, 3, 4)
    assert from_data(Sampler, to_data(made), "sampler") == made
    assert from_data(Sampler, "restart", "sampler") == Restart()
    assert not made.deterministic
