"""Methods of several evaluations a step: midpoint, RK4 and DPM-Solver++ 2S, against closed forms and their papers."""

from itertools import pairwise

import pytest
import torch
from helpers import (
    DOUBLE,
    SCHEDULES,
    close,
    every_schedule,
    gaussian,
    mixture,
    named,
    quadratic,
    randn,
    slope,
)
from laws import chain, law

from reverie.config import from_data, to_data
from reverie.exact import Gaussian
from reverie.grids import LogSNR
from reverie.samplers import DDIM, Sampler
from reverie.samplers.angle import between, polar
from reverie.samplers.dpmpp_2s import DPMSolverPP2S
from reverie.samplers.runge_kutta import CLASSICAL, HEUN_3, MIDPOINT, RK4, Midpoint
from reverie.sampling import generate, trajectory
from reverie.schedules import VE, LinearVP
from reverie.tensors import host

SOLVERS = {"midpoint": Midpoint(), "rk4": RK4(), "dpmpp_2s": DPMSolverPP2S()}
every_solver = named(**SOLVERS)


def error(f, sampler, times, z):
    x = f.schedule.at(times[0], z).sigma * z
    return float((generate(f, sampler, times, x) - f.solution(x, times[0], 0.0)).abs().max())


@pytest.mark.parametrize("sampler", **every_solver)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_order_is_the_declared_one_from_pure_noise_to_the_data(schedule, sampler):
    errors = [error(gaussian(schedule), sampler, quadratic(n), randn(4, 3, seed=1)) for n in (64, 128, 256)]
    order = 3 if isinstance(sampler, Midpoint) else sampler.order  # a Gaussian is a midpoint's good fortune
    for pair in (errors[:2], errors[1:]):
        assert order - 0.2 < slope(pair) < order + 0.3


@pytest.mark.parametrize("sampler", **every_solver)
@pytest.mark.parametrize("name", ["cosine", "linear_vp", "ve"])
def test_the_order_is_the_declared_one_on_a_mixture(name, sampler):
    f = mixture(SCHEDULES[name])
    x = f.schedule.sigma(host(1.0)) * randn(8, 2, seed=4)
    exact = generate(f, RK4(), quadratic(400), x)
    errors = [float((generate(f, sampler, quadratic(n), x) - exact).square().mean().sqrt()) for n in (32, 64, 128)]
    assert sampler.order - 0.2 < slope(errors) < sampler.order + 0.3


@pytest.mark.parametrize("sampler", **every_solver)
@pytest.mark.parametrize("name", ["linear_vp", "flow"])
def test_more_steps_are_never_worse_up_to_1000(name, sampler):
    f, z = gaussian(SCHEDULES[name]), randn(4, 3, seed=2)
    errors = [error(f, sampler, quadratic(n), z) for n in (5, 10, 30, 100, 300, 1000)]
    assert all(fine < coarse or fine < 1e-11 for coarse, fine in pairwise(errors))


@pytest.mark.parametrize("sampler", **every_solver)
def test_the_last_step_leaves_no_floor(sampler):
    # DDIM's, from sigma / alpha = 0.002, is off by 1e-6: however many steps are taken above it, that remains.
    f, times = gaussian(LinearVP()), LogSNR(1, 0.002, 0.00200001)(LinearVP())
    assert error(f, sampler, times, randn(4, 3)) < 2e-8 < 5e-7 < error(f, DDIM(), times, randn(4, 3))


@pytest.mark.parametrize("tableau", [MIDPOINT, HEUN_3, CLASSICAL], ids=["2", "3", "4"])
def test_butchers_conditions(tableau):
    order = {MIDPOINT: 2, HEUN_3: 3, CLASSICAL: 4}[tableau]
    n = len(tableau.b)
    b, c = torch.tensor(tableau.b, dtype=DOUBLE), torch.tensor(tableau.c, dtype=DOUBLE)
    a = torch.tensor([[*row, *[0.0] * (n - len(row))] for row in tableau.a], dtype=DOUBLE)
    conditions = [
        (1, b.sum(), 1), (2, b @ c, 1 / 2), (3, b @ c**2, 1 / 3), (3, b @ a @ c, 1 / 6),
        (4, b @ c**3, 1 / 4), (4, (b * c) @ a @ c, 1 / 8), (4, b @ a @ c**2, 1 / 12), (4, b @ a @ a @ c, 1 / 24),
    ]  # fmt: skip
    for degree, found, wanted in conditions:
        assert (degree > order) or close(found, wanted, 1e-15)
    assert not all(close(found, wanted, 1e-15) for _, found, wanted in conditions) or order == 4


@pytest.mark.parametrize("schedule", **every_schedule)
def test_they_are_the_textbook_methods_in_turned_coordinates(schedule):
    f, x = mixture(schedule), randn(5, 2)
    for t, s, tableau in ((0.8, 0.62, CLASSICAL), (1.0, 0.9, CLASSICAL), (0.4, 0.0, HEUN_3), (0.5, 0.3, MIDPOINT)):
        t, s = host(t), host(s)
        (high, r_t), (low, r_s) = polar(schedule, t), polar(schedule, s)
        c, half = (high + low) / 2, (high - low) / 2

        def slope_of(y, rho, c=c, t=t, s=s):
            theta = c + rho.atan()
            at = between(schedule, theta, t, s)
            q = f(y * rho.atan().cos() * polar(schedule, at)[1], at)
            return c.cos() * q.eps - c.sin() * q.x0

        y, h, k = x / (r_t * half.cos()), -2 * half.tan(), []
        for place, row in zip(tableau.c, tableau.a, strict=True):
            moved = sum((a * k_j for a, k_j in zip(row, k, strict=True)), torch.zeros_like(x))
            k.append(slope_of(y + h * moved, half.tan() + place * h))
        expected = (y + h * sum(b * k_j for b, k_j in zip(tableau.b, k, strict=True))) * r_s * half.cos()
        sampler = Midpoint() if tableau == MIDPOINT else RK4()
        assert close(sampler.step(f, x, t, s, None, torch.randn_like, None)[0], expected, 1e-11)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_any_step_is_exact_when_the_data_are_a_point(schedule):
    f, x = Gaussian(schedule, torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE), 0.0), randn(4, 3)
    for t, s in ((1.0, 0.2), (0.9, 0.85), (0.5, 0.0), (1.0, 0.0)):
        for sampler in SOLVERS.values():
            found = sampler.step(f, x, host(t), host(s), None, torch.randn_like, None)[0]
            assert close(found, f.solution(x, t, s), 1e-10)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_angle_and_its_time(schedule):
    t, s = host(0.9), host(0.1)
    theta, r = polar(schedule, torch.linspace(0.9, 0.1, 9, dtype=DOUBLE))
    assert close(r * theta.cos(), schedule.alpha(torch.linspace(0.9, 0.1, 9, dtype=DOUBLE)), 1e-12)
    assert close(r * theta.sin(), schedule.sigma(torch.linspace(0.9, 0.1, 9, dtype=DOUBLE)), 1e-12)
    assert close(between(schedule, theta, t, s), torch.linspace(0.9, 0.1, 9, dtype=DOUBLE), 1e-9)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_dpmpp_2s_is_algorithm_1_of_its_paper(schedule):
    f, x = mixture(schedule), randn(5, 2)
    t, s = host(0.42), host(0.3)
    lam = [schedule.log_snr(a) / 2 for a in (t, s)]
    m = schedule.time(lam[0] + lam[1])
    h = lam[1] - lam[0]
    if schedule.ends_in_noise() and lam[0] <= 0:
        t, s = (schedule.time(schedule.log_snr(a) + 4) for a in (t, s))
        lam = [schedule.log_snr(a) / 2 for a in (t, s)]
        m, h = schedule.time(lam[0] + lam[1]), lam[1] - lam[0]
    (a_m, a_s), (b_t, b_m, b_s) = (schedule.alpha(a) for a in (m, s)), (schedule.sigma(a) for a in (t, m, s))
    middle = b_m / b_t * x - a_m * torch.expm1(-h / 2) * f(x, t).x0
    expected = b_s / b_t * x - a_s * torch.expm1(-h) * f(middle, m).x0
    assert close(DPMSolverPP2S().step(f, x, t, s, None, torch.randn_like, None)[0], expected, 1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_dpmpp_2s_with_ancestral_noise(eta):
    # The noise that comes up and the level gone down to are those of ancestral sampling in sigma (k-diffusion).
    schedule, z = VE(), randn(5, 2, seed=5)
    f, x = mixture(schedule), 3 * randn(5, 2)

    def denoise(x, sigma):
        return f(x, schedule.time(-2 * sigma.log())).x0

    sigma, to = host(4.0), host(2.5)
    up = eta * (to**2 * (sigma**2 - to**2) / sigma**2).sqrt()
    down = (to**2 - up**2).sqrt()
    middle = (sigma * down).sqrt()
    x_m = middle / sigma * x + (1 - middle / sigma) * denoise(x, sigma)
    expected = down / sigma * x + (1 - down / sigma) * denoise(x_m, middle) + up * z
    t, s = schedule.time(-2 * sigma.log()), schedule.time(-2 * to.log())
    assert close(DPMSolverPP2S(eta).step(f, x, t, s, None, lambda like: z, None)[0], expected, 1e-10)


@pytest.mark.parametrize("eta", [0.5, 1.0])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_with_noise_the_law_is_kept(schedule, eta):
    sampler, mean = DPMSolverPP2S(eta), torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE)
    point = Gaussian(schedule, mean, 0.0)
    for t, s in ((1.0, 0.8), (0.9, 0.5), (0.5, 0.1), (0.4, 0.0)):
        t, s = host(t), host(s)
        found, var = law(point, chain(point, sampler, torch.stack([t, s])), t)
        assert close(found, schedule.alpha(s) * mean, 1e-9)
        assert close(var, (schedule.sigma(s) ** 2).expand(3), 1e-9)
    f, errors = gaussian(schedule), []
    for steps in (60, 120):
        times = LogSNR(steps, 1e-3, 80.0)(schedule)
        found, var = law(f, chain(f, sampler, times), times[0])
        errors.append(float(max((found - f.means[0]).abs().max(), (var.sqrt() - f.stds[0]).abs().max())))
    assert slope(errors) > 0.8
    assert errors[-1] < 0.02


class Listening:
    """The denoiser, and what it was asked."""

    def __init__(self, f):
        self.f, self.schedule, self.times = f, f.schedule, []

    def __call__(self, x, t, cond=None):
        self.times.append(t)
        return self.f(x, t, cond)


@pytest.mark.parametrize(("sampler", "counts"), [(Midpoint(), (2, 2)), (RK4(), (4, 3)), (DPMSolverPP2S(), (2, 2))])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_evaluations_a_step_lie_within_it_and_never_at_the_data(schedule, sampler, counts):
    f, times = Listening(gaussian(schedule)), torch.tensor([1.0, 0.5, 0.25, 0.0], dtype=DOUBLE)
    asked = 0
    for step in trajectory(f, sampler, times, randn(2, 3)):
        new = torch.stack(f.times[asked:])
        assert len(new) == counts[step.s == 0]
        assert (new <= step.t).all()
        assert (new >= step.s).all()
        assert (new > 0).all()
        asked = len(f.times)


@pytest.mark.parametrize("sampler", **every_solver)
@pytest.mark.parametrize("name", ["cosine", "linear_vp", "ve"])
def test_examples_at_levels_of_their_own(name, sampler):
    f, x = mixture(SCHEDULES[name]), randn(4, 2)
    t, s = torch.tensor([1.0, 0.6, 0.3, 0.2], dtype=DOUBLE), torch.tensor([0.9, 0.3, 0.0, 0.0], dtype=DOUBLE)
    together, _ = sampler.step(f, x, t, s, None, torch.randn_like, None)
    for i in range(4):
        alone, _ = sampler.step(f, x[i : i + 1], t[i], s[i], None, torch.randn_like, None)
        assert close(together[i : i + 1], alone, 1e-12)
        same, _ = sampler.step(f, x[i : i + 1], t[i : i + 1], s[i], None, torch.randn_like, None)
        assert close(same, alone, 1e-12)


@pytest.mark.parametrize("sampler", **every_solver)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_float32_follows_float64(schedule, sampler):
    f, times = mixture(schedule), quadratic(20)
    x = schedule.sigma(times[0]) * randn(6, 2)
    exact, rounded = generate(f, sampler, times, x), generate(f, sampler, times, x.float())
    assert rounded.dtype == torch.float32
    assert close(rounded, exact, 1e-4)


@pytest.mark.parametrize("sampler", **every_solver)
def test_what_is_planned_ahead_is_what_is_done_without_a_plan(sampler):
    f, times, x = mixture(LinearVP()), quadratic(6), randn(3, 2)
    state = sampler.start(f.schedule, times)
    for t, s in pairwise(times):
        with_plan, after = sampler.step(f, x, t, s, None, torch.randn_like, state)
        assert after is state
        assert torch.equal(with_plan, sampler.step(f, x, t, s, None, torch.randn_like, sampler.init())[0])
        assert torch.equal(with_plan, sampler.step(f, x, t, s, None, torch.randn_like, state)[0])
        x = with_plan


def test_names():
    for name, made in {
        "midpoint": Midpoint(), "rk4": RK4(), "dpmpp_2s": DPMSolverPP2S(), "k_dpmpp_2s": DPMSolverPP2S(),
        "dpmpp_2s_a": DPMSolverPP2S(1.0), "k_dpmpp_2s_a": DPMSolverPP2S(1.0),
    }.items():  # fmt: skip
        assert from_data(Sampler, name, "sampler") == made
        assert from_data(Sampler, to_data(made), "sampler") == made
    assert not DPMSolverPP2S(0.1).deterministic
    for eta in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"eta in \[0, 1\]"):
            DPMSolverPP2S(eta)
