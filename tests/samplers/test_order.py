import pytest
import torch
from helpers import (
    DETERMINISTIC,
    DOUBLE,
    SCHEDULES,
    close,
    every_schedule,
    gaussian,
    mixture,
    named,
    noise_from,
    quadratic,
    randn,
    seeded,
    slope,
)

from reverie.exact import FiniteData
from reverie.grids import Karras, Uniform
from reverie.samplers import DDIM, RK4, Adaptive, Ancestral, Heun, Picard
from reverie.sampling import generate, invert, prior
from reverie.tensors import host

ONE_STEP = {k: s for k, s in DETERMINISTIC.items() if s.invertible and not isinstance(s, Adaptive | Picard)}
"""Multistep methods, and those that stop at a tolerance, have tests of their own."""

every_deterministic = named(**ONE_STEP)


def shows(sampler, observed):
    """Whether an observed order is that of the sampler; some are better than they say."""
    return sampler.order - 0.2 < observed < sampler.order + (0.5 if isinstance(sampler, DDIM | Heun) else 1.5)


@pytest.mark.parametrize("sampler", **every_deterministic)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_observed_order_against_the_closed_form(schedule, sampler):
    f, errors = gaussian(schedule), []
    z = randn(6, 3, seed=1)
    for steps in (64, 128, 256):
        times = quadratic(steps)
        x = schedule.at(times[0], z).sigma * z
        errors.append(float((generate(f, sampler, times, x) - f.solution(x, times[0], 0.0)).abs().max()))
    assert shows(sampler, slope(errors))
    assert shows(sampler, slope(errors[:2]))


@pytest.mark.parametrize("sampler", **every_deterministic)
@pytest.mark.parametrize("schedule", [SCHEDULES[k] for k in ("cosine", "flow", "ve")], ids=["cosine", "flow", "ve"])
def test_observed_order_on_a_mixture_between_two_levels(schedule, sampler):
    f, x = mixture(schedule), 0.5 * randn(12, 2, seed=4)
    x = x * schedule.sigma(host(0.6)) + 0.1

    def end(sampler, steps):
        return generate(f, sampler, torch.linspace(0.6, 0.2, steps + 1, dtype=DOUBLE), x)

    reference = end(RK4(), 1024)
    errors = [float((end(sampler, steps) - reference).abs().max()) for steps in (32, 64, 128)]
    assert shows(sampler, slope(errors))


@pytest.mark.parametrize("sampler", **every_deterministic)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_finite_data_set_is_landed_on(schedule, sampler):
    data = 2 * randn(5, 4, seed=2)
    times = Karras(40)(schedule)
    x = generate(
        FiniteData(schedule, data), sampler, times, prior(schedule, times[0], randn(20, 4), lambda l: randn(*l.shape))
    )
    nearest = torch.cdist(x, data).min(1)
    assert nearest.values.max() < 1e-6
    assert len(nearest.indices.unique()) > 1


@pytest.mark.parametrize("sampler", **every_deterministic)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_inversion_returns_to_the_noise_at_the_order_of_the_sampler_or_of_its_first_step(schedule, sampler):
    f, errors, noise_errors = gaussian(schedule), [], []
    x = f.sample(6, torch.Generator().manual_seed(0))
    for steps in (64, 128, 256):
        times = quadratic(steps, 0.8)
        noise = invert(f, sampler, times, x)
        errors.append(float((generate(f, sampler, times, noise) - x).abs().max()))
        noise_errors.append(float((noise - f.solution(x, 0.0, 0.8)).abs().max()))
    # The first step takes the noise of the lowest level, its size in theta, for that of the data.
    order = min(sampler.order, 2)
    assert slope(errors) > order - 0.2
    assert slope(noise_errors) > order - 0.2
    assert errors[-1] < 0.05


def test_ddim_on_flow_is_eulers_method_on_the_velocity():
    schedule = SCHEDULES["flow"]
    f, x = mixture(schedule), randn(5, 2)
    t, s = host(0.7), host(0.55)
    flow = f(x, t).flow(schedule.rates(t))
    assert close(DDIM().step(f, x, t, s, None, torch.randn_like, None)[0], x + (s - t) * flow, 1e-12)


def test_heun_on_flow_is_the_trapezoidal_rule_on_the_velocity():
    schedule = SCHEDULES["flow"]
    f, x = mixture(schedule), randn(5, 2)
    t, s = host(0.7), host(0.55)
    first = f(x, t).flow(schedule.rates(t))
    second = f(x + (s - t) * first, s).flow(schedule.rates(s))
    assert close(Heun().step(f, x, t, s, None, torch.randn_like, None)[0], x + (s - t) * (first + second) / 2, 1e-12)


@pytest.mark.parametrize("churn", [0.0, 0.3])
def test_heun_on_ve_is_algorithm_2_of_karras(churn):
    schedule, noise_scale, z = SCHEDULES["ve"], 1.007, randn(5, 2, seed=7)
    f, x = mixture(schedule), 2 * randn(5, 2)

    def denoise(x, sigma):
        return f(x, schedule.time(-2 * sigma.log())).x0

    t, s = host(0.7), host(0.6)
    sigma, sigma_next = schedule.sigma(t), schedule.sigma(s)
    higher = sigma + churn * sigma
    x_hat = x + (higher**2 - sigma**2).sqrt() * noise_scale * z
    d = (x_hat - denoise(x_hat, higher)) / higher
    x_next = x_hat + (sigma_next - higher) * d
    d_next = (x_next - denoise(x_next, sigma_next)) / sigma_next
    expected = x_hat + (sigma_next - higher) * (d + d_next) / 2
    sampler = Heun(churn, noise_scale=noise_scale)
    assert close(sampler.step(f, x, t, s, None, lambda l: z, None)[0], expected, 1e-11)
    last = sampler.step(f, x, t, host(0.0), None, lambda l: z, None)[0]
    assert close(last, denoise(x_hat, higher), 1e-11)


def test_churn_acts_between_its_bounds_and_below_the_noisiest_level():
    schedule = SCHEDULES["ve"]
    f, x, plain = mixture(schedule), 2 * randn(5, 2), Heun()

    def churned(t, **settings):
        step = Heun(0.4, **settings).step(f, x, host(t), host(t - 0.05), None, lambda l: randn(*l.shape, seed=3), None)[
            0
        ]
        return not close(step, plain.step(f, x, host(t), host(t - 0.05), None, torch.randn_like, None)[0], 1e-9)

    sigma = float(schedule.sigma(host(0.5)))
    assert churned(0.5)
    assert churned(0.5, churn_low=sigma * (1 - 1e-12), churn_high=sigma * (1 + 1e-12))
    assert not churned(0.5, churn_low=sigma * 1.01)
    assert not churned(0.5, churn_high=sigma * 0.99)
    assert not churned(1.0)
    t = torch.tensor([0.5, 1.0, 0.3, 0.5, 0.99], dtype=DOUBLE)
    sampler = Heun(0.4, churn_low=float(schedule.sigma(host(0.4))))
    mixed = sampler.step(f, x, t, t - 0.05, None, lambda l: randn(*l.shape, seed=3), None)[0]
    same = (mixed - plain.step(f, x, t, t - 0.05, None, torch.randn_like, None)[0]).abs().amax(1) < 1e-12
    assert same.tolist() == [False, True, True, False, False]


@pytest.mark.parametrize("schedule", **every_schedule)
def test_churn_leaves_no_noise_in_data_that_have_none(schedule):
    # Of a single point x0 is known at any level: what a sample is off by is noise that a step has left in it.
    f = FiniteData(schedule, torch.tensor([[0.3, -0.2, 0.5]], dtype=DOUBLE))
    times = Uniform(8)(schedule)
    for churn_low in (0.0, 0.5):
        sampler = Heun(0.4, churn_low=churn_low)
        x = generate(f, sampler, times, randn(5, 3), noise=noise_from(seeded(3)))
        assert close(x, f.means[0].expand(5, 3), 1e-9)


def test_evaluations_a_step():
    calls = []

    class Counting:
        schedule = SCHEDULES["cosine"]

        def __call__(self, x, t, cond=None):
            calls.append(float(t))
            return gaussian(self.schedule)(x, t, cond)

    times = torch.tensor([1.0, 0.5, 0.25, 0.0], dtype=DOUBLE)
    generate(Counting(), Heun(), times, randn(2, 3))
    assert calls == [1.0, 0.5, 0.5, 0.25, 0.25]
    calls.clear()
    generate(Counting(), DDIM(), times, randn(2, 3))
    assert calls == [1.0, 0.5, 0.25]


def test_orders_are_those_of_the_methods():
    assert (DDIM().order, Heun().order, RK4().order, Ancestral().order) == (1, 2, 4, 1)
    assert close(SCHEDULES["flow"].sigma(host(0.5)), 0.5)
