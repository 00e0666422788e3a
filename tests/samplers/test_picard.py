"""Picard iteration: what it stands still at, and how soon."""

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, every_schedule, gaussian, labelled, mixture, quadratic, randn, slope

from reverie.conditioning import Cond
from reverie.config import from_data, to_data
from reverie.denoiser import Denoiser
from reverie.parameterizations import V
from reverie.samplers import Sampler
from reverie.samplers.angle import between, polar
from reverie.samplers.picard import Picard
from reverie.samplers.runge_kutta import RK4, Midpoint
from reverie.sampling import generate, invert
from reverie.schedules import VE, Cosine, LinearVP
from reverie.tensors import host


class Counting:
    def __init__(self, f):
        self.f, self.schedule, self.rows = f, f.schedule, []

    def __call__(self, x, t, cond=None):
        assert float(t.min()) > 0
        self.rows.append(len(x))
        return self.f(x, t, cond)


def parts(schedule, t, s, steps):
    """The times that divide a step equally in the angle."""
    (high, _), (low, _) = polar(schedule, t), polar(schedule, s)
    inner = high + torch.arange(1, steps, dtype=DOUBLE) / steps * (low - high)
    return torch.cat([t[None], between(schedule, inner, t, s), s[None]])


@pytest.mark.parametrize("schedule", **every_schedule)
def test_after_all_calls_it_is_the_midpoint_rule_exactly(schedule):
    f, x = Counting(mixture(schedule)), randn(4, 2)
    for t, s in ((1.0, 0.4), (0.5, 0.0)):
        t, s = host(t), host(s)
        f.rows.clear()
        found, _ = Picard(4, 0.0).step(f, x, t, s, None, torch.randn_like, None)
        assert f.rows == [4] + [7 * 4] * 7
        assert close(found, generate(f.f, Midpoint(), parts(schedule, t, s, 4), x), 1e-12)


@pytest.mark.parametrize("name", ["cosine", "linear_vp", "ve"])
def test_it_stands_still_sooner_than_the_midpoint_rule_arrives(name):
    schedule = SCHEDULES[name]
    f, times = Counting(mixture(schedule)), torch.linspace(1, 0, 5, dtype=DOUBLE)
    x = schedule.sigma(times[0]) * randn(16, 2, seed=5)
    exact = generate(f, Picard(8, 0.0), times, x)
    f.rows.clear()
    errors = []
    for tolerance in (1e-3, 1e-5, 1e-8):
        f.rows.clear()
        errors.append(float((generate(f, Picard(8, tolerance), times, x) - exact).abs().max()))
        assert errors[-1] < 10 * tolerance
        if tolerance == 1e-5:
            assert 16 < len(f.rows) <= 30  # in place of 64


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_order_is_that_of_the_midpoint_rule(schedule):
    f, z, errors = gaussian(schedule), randn(4, 3, seed=1), []
    for steps in (16, 32, 64):
        times = quadratic(steps)
        x = schedule.sigma(times[0]) * z
        found = generate(f, Picard(2, 1e-10), times, x)
        errors.append(float((found - f.solution(x, 1.0, 0.0)).abs().max()))
    assert 2.8 < slope(errors) < 3.3  # on Gaussian data


@pytest.mark.parametrize("name", ["cosine", "linear_vp", "ve"])
def test_the_order_on_a_mixture(name):
    f = mixture(SCHEDULES[name])
    x, errors = f.schedule.sigma(host(1.0)) * randn(4, 2, seed=1), []
    exact = generate(f, RK4(), quadratic(200), x)
    for steps in (16, 32):
        errors.append(float((generate(f, Picard(2, 1e-10), quadratic(steps), x) - exact).square().mean().sqrt()))
    assert 1.7 < slope(errors) < 2.5


def test_an_example_keeps_to_itself_and_to_its_condition():
    f, sampler = labelled(Cosine()), Picard(4, 1e-4)
    x, label = randn(4, 2, seed=2), torch.tensor([0, 1, 1, 0])
    t, s = torch.tensor([1.0, 0.8, 0.3, 0.9]).double(), torch.tensor([0.5, 0.0, 0.0, 0.8]).double()
    together, _ = sampler.step(f, x, t, s, Cond(label=label), torch.randn_like, None)
    other, _ = sampler.step(f, x, t, s, Cond(label=1 - label), torch.randn_like, None)
    for i in range(4):
        cond = Cond(label=label[i : i + 1])
        alone, _ = sampler.step(f, x[i : i + 1], t[i], s[i], cond, torch.randn_like, None)
        assert close(together[i : i + 1], alone, 1e-12)
    assert (together - other).abs().amax(1).min() > 1e-3


def test_one_part_and_float32():
    f, x = mixture(VE()), 80 * randn(4, 2)
    found, _ = Picard(1).step(f, x, host(1.0), host(0.5), None, torch.randn_like, None)
    assert close(found, Midpoint().step(f, x, host(1.0), host(0.5), None, torch.randn_like, None)[0], 1e-12)
    times = torch.linspace(1, 0, 9, dtype=DOUBLE)
    exact, rounded = (generate(f, Picard(), times, given) for given in (x, x.float()))
    assert rounded.dtype == torch.float32
    assert close(rounded, exact, 1e-3)


def test_it_goes_back_to_the_noise():
    f, sampler, times = gaussian(LinearVP()), Picard(8, 1e-10), 0.8 * quadratic(20)
    x = f.sample(4, torch.Generator().manual_seed(0))
    assert close(generate(f, sampler, times, invert(f, sampler, times, x)), x, 1e-3)


def test_a_network_that_is_told_its_own_estimate():
    class Net(torch.nn.Module):
        def forward(self, x, label, cond):
            return 0.1 * x[:, :2] + 0.05 * x[:, 2:]

    f = Denoiser(Net(), Cosine(), V(), self_conditioned=True)
    assert generate(f, Picard(3), torch.linspace(1, 0, 4, dtype=DOUBLE), randn(4, 2)).isfinite().all()


def test_settings():
    for settings in ({"steps": 0}, {"tolerance": -1.0}, {"tolerance": float("nan")}):
        with pytest.raises(ValueError, match="Picard needs"):
            Picard(**settings)
    for name in ("picard", "paradigms"):
        assert from_data(Sampler, name, "sampler") == Picard()
    assert from_data(Sampler, to_data(Picard(3, 0.1)), "sampler") == Picard(3, 0.1)
    assert Picard().deterministic
