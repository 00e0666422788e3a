"""Adams in the angle: exact where it should be, of its order from pure noise, and right to the last step."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, every_schedule, gaussian, mixture, named, quadratic, randn, slope

from reverie.denoiser import Clipped
from reverie.exact import Gaussian, GaussianMixture
from reverie.grids import Angle
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Adams, Midpoint
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, Flow, LinearVP, Schedule


class Along:
    """A denoiser for which u' = g(theta) whatever x is: g a polynomial that is 0 at 0."""

    def __init__(self, schedule: Schedule, std: float, powers: tuple[int, ...]) -> None:
        self.schedule, self.std, self.powers = schedule, std, powers

    def g(self, theta: torch.Tensor) -> torch.Tensor:
        return sum(theta**p * (p + 1) for p in self.powers)

    def integral(self, theta: torch.Tensor) -> torch.Tensor:
        return sum(theta ** (p + 1) for p in self.powers)

    def __call__(self, x: torch.Tensor, t: torch.Tensor, cond: object = None) -> Prediction:
        level = self.schedule.at(t, like=x)
        data = level.alpha * self.std
        theta, r = torch.atan2(level.sigma, data), torch.hypot(level.sigma, data)
        u, g = x / r, self.g(theta)
        x0, eps = self.std * (theta.cos() * u - theta.sin() * g), theta.sin() * u + theta.cos() * g
        return Prediction(x, level, x0, eps)


@pytest.mark.parametrize("schedule", [Cosine(), LinearVP(), Flow()], ids=["cosine", "linear_vp", "flow"])
@pytest.mark.parametrize(("order", "powers"), [(2, (1,)), (3, (1,)), (4, (1, 2)), (5, (1, 2, 3)), (6, (1, 3, 4))])
def test_polynomials_of_the_angle_are_followed_exactly_to_the_data(schedule, order, powers):
    """From the first step on, and in the last, for which 0 is a node."""
    f, x = Along(schedule, 0.7, powers), randn(3, 2)
    times = Angle(12, std=0.7)(schedule)
    alpha, sigma = 0.7 * schedule.alpha(times[0]), schedule.sigma(times[0])
    exact = 0.7 * (x / torch.hypot(sigma, alpha) - f.integral(torch.atan2(sigma, alpha)))
    assert close(generate(f, Adams(order, std=0.7), times, x), exact, 1e-10)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_centred_data_of_the_assumed_spread_are_mapped_exactly_in_any_steps(schedule):
    f = Gaussian(schedule, torch.zeros(2, dtype=DOUBLE), 0.6)
    x = schedule.sigma(torch.ones((), dtype=DOUBLE)) * randn(4, 2)
    for steps in (2, 5):
        out = generate(f, Adams(std=0.6), Angle(steps, std=0.6)(schedule), x)
        assert close(out, f.solution(x, 1.0, 0.0), 1e-10)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_observed_order_from_pure_noise_to_the_data(schedule, order):
    f, z, errors = gaussian(schedule), randn(6, 3, seed=1), []
    for steps in (64, 128, 256):
        times = quadratic(steps)
        x = schedule.at(times[0], z).sigma * z
        errors.append(float((generate(f, Adams(order), times, x) - f.solution(x, times[0], 0.0)).abs().max()))
    assert order - 0.2 < slope(errors) < order + 0.3


@pytest.mark.parametrize("schedule", **named(linear_vp=SCHEDULES["linear_vp"], cosine=SCHEDULES["cosine"]))
def test_the_error_falls_at_every_doubling_to_the_floor_of_rounding(schedule):
    f, z = mixture(schedule), randn(16, 2, seed=3)
    x = schedule.at(torch.ones((), dtype=DOUBLE), z).sigma * z
    reference = generate(f, Adams(5), Angle(3000)(schedule), x)
    errors = []
    for steps in (4, 8, 16, 32, 64, 128, 256, 512):
        errors.append(float((generate(f, Adams(), Angle(steps)(schedule), x) - reference).square().mean().sqrt()))
    assert all(b < a for a, b in pairwise(errors))
    assert errors[-1] < 1e-7
    assert slope(errors[:-1]) > 3.8


def test_one_step_is_that_of_ddim():
    f, x = mixture(Cosine()), randn(5, 2)
    for t in (1.0, 0.6):
        times = torch.tensor([t, 0.0], dtype=DOUBLE)
        assert close(generate(f, Adams(std=0.7), times, x), generate(f, DDIM(), times, x))


@pytest.mark.parametrize("std", [0.5, 2.0])
def test_the_scale_of_the_data_and_that_of_the_setting_go_together(std):
    """Data, x and `std` times c under y = x / alpha and rho = sigma / alpha are the same problem."""
    schedule = LinearVP()
    f = mixture(schedule)
    times = Angle(9)(schedule)
    x = schedule.sigma(times[0]) * randn(6, 2)
    wide = type(f)(schedule, std * f.means, std * f.stds, f.weights)
    rho = std * schedule.sigma(times[1:-1]) / schedule.alpha(times[1:-1])
    inner = schedule.time(-2 * rho.log())
    start = torch.tensor(0.9, dtype=DOUBLE)
    first = schedule.time(-2 * (std * schedule.sigma(start) / schedule.alpha(start)).log())
    a = torch.cat([start[None], times[2:]])
    b = torch.cat([first[None], inner[1:], times[-1:]])
    y = x * float(schedule.alpha(first) / schedule.alpha(start)) * std
    left = generate(f, Adams(std=1.0), a, x)
    right = generate(wide, Adams(std=std), b, y)
    assert close(std * left, right, 1e-9)


@pytest.mark.parametrize("schedule", [Cosine(), LinearVP(), Flow()], ids=["cosine", "linear_vp", "flow"])
def test_without_a_density_the_order_is_one_less_whatever_the_slope_at_the_data(schedule):
    f, x = Along(schedule, 0.7, (0, 1, 3)), randn(3, 2)  # g(0) = 1
    alpha, sigma = 0.7 * schedule.alpha(torch.ones((), dtype=DOUBLE)), schedule.sigma(torch.ones((), dtype=DOUBLE))
    exact = 0.7 * (x / torch.hypot(sigma, alpha) - f.integral(torch.atan2(sigma, alpha)))

    def orders(density):
        made = [generate(f, Adams(4, 0.7, density), Angle(n, std=0.7)(schedule), x) for n in (64, 128, 256)]
        return slope([float((m - exact).abs().max()) for m in made])

    assert orders(False) > 2.8
    assert orders(True) < 1.2


@pytest.mark.parametrize("schedule", [LinearVP(), Flow(), VE()], ids=["linear_vp", "flow", "ve"])
def test_clipped_data_are_reached_sooner_without_a_density(schedule):
    corners = randn(6, 8, seed=4).sign()
    f = Clipped(GaussianMixture(schedule, corners, torch.full((6,), 0.2, dtype=DOUBLE)))
    x = schedule.sigma(torch.ones((), dtype=DOUBLE)) * randn(64, 8, seed=5)
    exact = generate(f, Midpoint(), Angle(1000)(schedule), x)

    def error(sampler, steps):
        apart = generate(f, sampler, Angle(steps)(schedule), x) - exact
        return float(apart.square().mean(1).sqrt().median())

    for steps in (10, 20, 50):
        ours = error(Adams(density=False), steps)
        assert ours < 0.8 * error(Adams(), steps)
        assert ours < 0.6 * error(DDIM(), steps)


@pytest.mark.parametrize("given", [{"order": 0}, {"order": 7}, {"std": 0.0}, {"std": math.nan}])
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(ValueError, match=r"order|deviation"):
        Adams(**given)
