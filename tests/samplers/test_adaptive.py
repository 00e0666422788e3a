"""Embedded pairs: the steps of SciPy's own, tolerances that are kept, and examples that keep to themselves."""

import math

import pytest
import torch
from helpers import DOUBLE, close, every_schedule, gaussian, mixture, named, quadratic, randn
from scipy.integrate import solve_ivp

from reverie.config import from_data, to_data
from reverie.exact import FiniteData
from reverie.grids import Uniform
from reverie.samplers import Sampler
from reverie.samplers.adaptive import Adaptive
from reverie.samplers.angle import between, polar, slope
from reverie.samplers.runge_kutta import RK4
from reverie.sampling import generate, invert
from reverie.schedules import VE, Cosine, Flow, LinearVP
from reverie.tensors import host

ONE_STEP = torch.tensor([1.0, 0.0], dtype=DOUBLE)
orders = named(rk23=3, rk45=5)


class Counting:
    def __init__(self, f):
        self.f, self.schedule, self.calls, self.lowest = f, f.schedule, 0, 1.0

    def __call__(self, x, t, cond=None):
        self.calls, self.lowest = self.calls + 1, min(self.lowest, float(t.min()))
        return self.f(x, t, cond)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("order", **orders)
@pytest.mark.parametrize("schedule", [LinearVP(), Cosine(), VE(), Flow()], ids=lambda s: s.kind)
def test_it_is_scipys_own_step_by_step(schedule, order, tolerance):
    f, t, s = Counting(mixture(schedule)), host(1.0), host(0.05)
    x = schedule.sigma(t) * randn(1, 2, seed=4)
    (start, r_t), (end, r_s) = polar(schedule, t), polar(schedule, s)

    def g(theta, u):
        at = t if theta == float(start) else between(schedule, host(theta), t, s)
        return slope(f.f, torch.from_numpy(u)[None], at[None], None)[0].numpy()

    method = {3: "RK23", 5: "RK45"}[order]
    theirs = solve_ivp(g, [float(start), float(end)], (x / r_t)[0].numpy(), method, rtol=tolerance, atol=tolerance)
    ours, _ = Adaptive(order, tolerance, tolerance).step(f, x, t, s, None, torch.randn_like, None)
    assert close(ours[0], r_s * torch.from_numpy(theirs.y[:, -1]), 1e-12)
    assert f.calls == theirs.nfev


@pytest.mark.parametrize("order", **orders)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_error_follows_the_tolerance_from_pure_noise_to_the_data(schedule, order):
    f, z, errors = gaussian(schedule), randn(6, 3, seed=1), []
    x = schedule.sigma(host(1.0)) * z
    for tolerance in (1e-3, 1e-5, 1e-7):
        found = generate(f, Adaptive(order, tolerance, tolerance), ONE_STEP, x)
        errors.append(float((found - f.solution(x, 1.0, 0.0)).abs().max()) / tolerance)
    assert max(errors) < 100
    assert errors[-1] * 1e-7 < 1e-5


@pytest.mark.parametrize("order", **orders)
def test_the_last_stretch_leaves_no_more_than_low_cubed(order):
    f = mixture(LinearVP())
    x, times = randn(8, 2), torch.tensor([0.3, 0.0], dtype=DOUBLE)
    exact = generate(f, RK4(), 0.3 * quadratic(300), x)
    errors = [
        float((generate(f, Adaptive(order, 1e-8, 1e-8, low), times, x) - exact).abs().max()) for low in (0.1, 0.05)
    ]
    assert math.log2(errors[0] / errors[1]) > 2.8
    assert errors[1] < 1e-3
    below = between(f.schedule, host(0.001), host(1.0), host(0.0))  # a step that begins below low
    found = generate(f, Adaptive(order), torch.stack([below, 0 * below]), x)
    assert close(found, generate(f, RK4(), torch.stack([below, 0 * below]), x), 1e-8)


@pytest.mark.parametrize("order", **orders)
def test_a_sample_does_not_depend_on_its_batch(order):
    f, sampler = mixture(Cosine()), Adaptive(order, 1e-4, 1e-4)
    x = randn(5, 2, seed=3)
    t, s = torch.tensor([1.0, 0.9, 0.4, 0.01, 1.0]).double(), torch.tensor([0.2, 0.0, 0.1, 0.0, 0.0]).double()
    together, steps = sampler.step(f, x, t, s, None, torch.randn_like, None)
    assert steps.shape == (5,)
    for i in range(5):
        row = slice(i, i + 1)
        for at, to in ((t[i], s[i]), (t[row], s[row])):
            alone, step = sampler.step(f, x[row], at, to, None, torch.randn_like, None)
            assert close(together[row], alone, 1e-12)
            assert close(steps[row], step, 1e-12)
    along = generate(f, sampler, quadratic(5), x)
    assert all(close(along[i : i + 1], generate(f, sampler, quadratic(5), x[i : i + 1]), 1e-12) for i in range(5))


def test_steps_go_on_where_the_grid_stops_them():
    # Were each step of the grid begun anew, or with the step that it cut short, it would take many more.
    calls = []
    for times in (ONE_STEP, Uniform(10)(Cosine()), Uniform(200)(Cosine())):
        f = Counting(mixture(Cosine()))
        generate(f, Adaptive(3, 1e-6, 1e-6), times, randn(1, 2))
        calls.append(f.calls)
        assert f.lowest > 0
    assert calls[1] < calls[0] + 10 * 5
    assert calls[2] <= 200 * 4 + 10  # a step in each, and what is rejected


@pytest.mark.parametrize("order", **orders)
def test_float32_and_data_that_are_points(order):
    data, x = 2 * randn(5, 4, seed=2), randn(20, 4, seed=6)
    sampler = Adaptive(order, 1e-4, 1e-4)
    for schedule in (Flow(), VE()):
        f, start = FiniteData(schedule, data), schedule.sigma(host(1.0)) * x
        for given, tolerance in ((start, 1e-5), (start.float(), 1e-4)):
            found = generate(f, sampler, ONE_STEP, given)
            assert found.dtype == given.dtype
            assert torch.cdist(found.double(), data).min(1).values.max() < tolerance


@pytest.mark.parametrize("order", **orders)
def test_it_goes_back_to_the_noise(order):
    f, sampler = gaussian(Cosine()), Adaptive(order, 1e-8, 1e-8)
    x, times = f.sample(4, torch.Generator().manual_seed(0)), 0.8 * quadratic(40)
    assert close(generate(f, sampler, times, invert(f, sampler, times, x)), x, 1e-5)


def test_too_many_evaluations_are_refused_with_a_sentence():
    f, x = mixture(Cosine()), randn(2, 2)
    with pytest.raises(ValueError, match=r"more than 50 evaluations from t = 1 to 0: raise rtol=1e-12"):
        generate(f, Adaptive(5, 1e-12, 1e-12, evaluations=50), ONE_STEP, x)

    class Broken:
        schedule = Cosine()

        def __call__(self, x, t, cond=None):
            return f(torch.full_like(x, math.nan), t, cond)

    with pytest.raises(ValueError, match="more than 100 evaluations"):
        generate(Broken(), Adaptive(evaluations=100), ONE_STEP, x)


@pytest.mark.parametrize(
    "settings", [{"order": 4}, {"rtol": -1.0}, {"atol": 0.0}, {"low": 0.0}, {"low": 1.0}, {"evaluations": 0}]
)
def test_settings_that_make_no_sampler_are_refused(settings):
    with pytest.raises(ValueError, match="Adaptive"):
        Adaptive(**settings)


def test_names():
    for name, made in {"adaptive": Adaptive(), "rk45": Adaptive(5), "rk23": Adaptive(3)}.items():
        assert from_data(Sampler, name, "sampler") == made
        assert from_data(Sampler, to_data(made), "sampler") == made
    assert Adaptive().deterministic
