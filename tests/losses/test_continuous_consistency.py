"""Consistency models in continuous time: the derivative along a path, and what is made of it."""

import math

import pytest
import torch
from helpers import DOUBLE, Stub, close, every_schedule, named, randn, stirred
from taught import MEAN, STD, Ends, gaussian, solved

from reverie.conditioning import Cond, Conditions
from reverie.denoiser import Denoiser
from reverie.grids import Uniform
from reverie.losses import ContinuousConsistency, UniformTimes
from reverie.losses.continuous_consistency import turned
from reverie.losses.tangents import along, angular
from reverie.nets import DiTConfig, MLPConfig, UNetConfig
from reverie.parameterizations import EDM, X0, Eps, LearnedVariance, V, Velocity, rates_at
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Consistency, Heun
from reverie.schedules import VE, Cosine, Flow, LinearVP, SubVP
from reverie.tensors import host

N = 32
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
DATA, EPS = MEAN + STD * randn(N, 3, seed=1), randn(N, 3, seed=2)
NETS = named(
    unet=UNetConfig(width=8, multipliers=(1, 2), blocks=1, attention=4, head_width=4, groups=2),
    dit=DiTConfig(width=16, depth=2, heads=2),
    mlp=MLPConfig(width=16, depth=2),
)
SMOOTH = named(flow=Flow(), cosine=Cosine(), linear_vp=LinearVP(), sub_vp=SubVP(), ve=VE())
change = ContinuousConsistency.change


class Nudged(torch.nn.Module):
    """A denoiser whose x0 is moved by `weight` times sin(x)."""

    def __init__(self, f, weight=0.0):
        super().__init__()
        self.f, self.schedule = f, f.schedule
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=DOUBLE))

    def forward(self, x, t, cond=None):
        return Prediction.from_x0(self.f(x, t).x0 + self.weight * x.sin(), x, self.schedule.at(t, like=x))


def wavy(schedule):
    return Stub(schedule, lambda x, t: (0.6 + t.reshape(-1, 1)) * torch.sin(0.7 * x) + t.reshape(-1, 1) ** 2)


def noised(schedule, u=U):
    t = ContinuousConsistency().times_at(u, schedule)
    return t, Prediction.of(DATA, EPS, schedule.at(t, like=DATA))


def circle(level):
    """cos and sin of theta."""
    size = (level.alpha**2 + level.sigma**2).sqrt()
    return level.alpha / size, level.sigma / size


# -------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize("parameterization", **named(v=V(), velocity=Velocity(), edm=EDM()))
@pytest.mark.parametrize("config", **NETS)
def test_the_derivative_of_a_network_is_that_of_finite_differences(config, parameterization):
    torch.manual_seed(0)
    net = stirred(config.build((1, 8, 8), Conditions(classes=3)))
    f, cond = Denoiser(net, Cosine(), parameterization), Cond(label=torch.tensor([0, 2, 1]))
    x, velocity = randn(3, 1, 8, 8, seed=1), randn(3, 1, 8, 8, seed=2)
    t, speed = host([0.2, 0.5, 0.9]), host([0.7, -1.3, 0.4])
    for read in (lambda q: q.x0, lambda q: q.eps - q.x0, turned):
        value, found = along(f, read, x, t, velocity, speed, cond)
        h = 1e-5
        above, below = (read(f(x + d * velocity, t + d * speed, cond)) for d in (h, -h))
        assert close(value, read(f(x, t, cond)), 1e-12)
        assert close(found, (above - below) / (2 * h), 1e-7)
        assert found.abs().max() > 1e-2
        assert not value.requires_grad
        assert not found.requires_grad


def test_only_the_way_that_x_and_t_go_counts_and_it_is_linear():
    f, x, t = wavy(Cosine()), randn(4, 3, seed=1), host([0.1, 0.4, 0.6, 0.9])
    velocity, speed, still = randn(4, 3, seed=2), host([0.5, -1.0, 2.0, 0.1]), torch.zeros(4, dtype=DOUBLE)
    both, by_x, by_t = (
        along(f, lambda q: q.x0, x, t, v, s)[1] for v, s in ((velocity, speed), (velocity, still), (0 * x, speed))
    )
    assert close(both, by_x + by_t, 1e-12)
    expected = (0.6 + t)[:, None] * 0.7 * torch.cos(0.7 * x) * velocity
    assert close(by_x, expected, 1e-12)
    assert close(by_t, speed[:, None] * (torch.sin(0.7 * x) + 2 * t[:, None]), 1e-12)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_derivative_of_the_mean_of_gaussian_data(schedule):
    # x0 = m + a P / V (x - a m), with V = a^2 P + b^2
    t, truth = noised(schedule)
    velocity, speed = randn(N, 3, seed=3), randn(N, seed=4)
    a, b = truth.level.alpha, truth.level.sigma
    da, db = rates_at(schedule, truth.level, DATA)
    power, v = STD**2, (a * STD) ** 2 + b**2
    dv = 2 * (a * da * power + b * db)
    by_t = power * ((da * v - a * dv) / v**2 * (truth.x - a * MEAN) - a / v * da * MEAN)
    _, found = along(gaussian(schedule), lambda q: q.x0, truth.x, t, velocity, speed)
    assert close(found, a * power / v * velocity + speed[:, None] * by_t, 1e-7)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_speed_of_the_angle(schedule):
    t = host([0.1234, 0.3512, 0.6187, 0.9653])  # between the knots of chains
    level = schedule.at(t, like=DATA[:4])
    found = angular(level.alpha, level.sigma, rates_at(schedule, level, DATA[:4]))[:, 0]
    above, below = (torch.atan2(schedule.sigma(s), schedule.alpha(s)) for s in (t + 1e-6, t - 1e-6))
    assert close(found / ((above - below) / 2e-6), torch.ones(4), 1e-5)


# -------------------------------------------------------------------------------- the tangent


@pytest.mark.parametrize("schedule", **every_schedule)
def test_at_the_consistency_function_nothing_is_to_change(schedule):
    t, truth = noised(schedule)
    f, teacher = Ends(gaussian(schedule)), gaussian(schedule)
    leading = teacher(truth.x, t)
    assert close(change(f, f(truth.x, t), leading, t, None), 0 * DATA, 1e-10)
    nudged = Nudged(f)
    value = ContinuousConsistency().taught_by(teacher)(nudged, DATA, U, None, lambda like: EPS)
    value.sum().backward()
    assert close(value, torch.zeros(N), 1e-15)
    assert close(nudged.weight.grad, 0.0, 1e-7)
    for wrong in (Nudged(f, 0.1), teacher):
        value = ContinuousConsistency().taught_by(teacher)(wrong, DATA, U, None, lambda like: EPS)
        assert value.mean() > 1e-3


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_tangent_of_the_mean_of_gaussian_data(schedule):
    # along a path x = a m + sqrt(V) z, so that x0 = m + cos P z / sqrt(W), W = cos^2 P + sin^2
    t, truth = noised(schedule)
    f, (cos, sin) = gaussian(schedule), circle(truth.level)
    q, w = f(truth.x, t), (cos * STD) ** 2 + sin**2
    z = (truth.x - truth.level.alpha * MEAN) / ((truth.level.alpha * STD) ** 2 + truth.level.sigma**2).sqrt()
    assert close(change(f, q, q, t, None), -cos * sin * STD**2 * z / w**1.5, 1e-9)


@pytest.mark.parametrize("schedule", **SMOOTH)
def test_the_tangent_is_the_limit_of_the_difference_of_neighbours(schedule):
    u = 0.1 + 0.8 * U
    t, truth = noised(schedule, u)
    f, teacher = wavy(schedule), gaussian(schedule)
    found = change(f, f(truth.x, t), teacher(truth.x, t), t, None)
    h = 1e-4 * t
    ends = [f.x0(solved(teacher, truth.x, t, s), s) for s in (t + h, t - h)]
    theta = [torch.atan2(schedule.sigma(s), schedule.alpha(s)) for s in (t + h, t - h)]
    expected = circle(truth.level)[0] * (ends[0] - ends[1]) / (theta[0] - theta[1])[:, None]
    assert close(found, expected, 1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_warmup_leads_from_the_difference_in_v_to_the_whole(schedule, share):
    t, truth = noised(schedule)
    f, leading = Ends(gaussian(schedule)), gaussian(schedule)(truth.x, t)
    own, (cos, sin) = f(truth.x, t), circle(truth.level)
    # F = cos eps - sin x0 for x brought to the unit circle; of this f the whole is 0
    size = (truth.level.alpha**2 + truth.level.sigma**2).sqrt()
    f_own, f_leading = ((cos * truth.x / size - q.x0) / sin for q in (own, leading))
    expected = (1 - share) * cos**2 * (f_leading - f_own)
    assert close(change(f, own, leading, t, None, share) * sin, expected * sin, 1e-9)
    assert close(turned(own) * sin, f_own * sin, 1e-9)


def test_what_leads_without_a_teacher_is_in_the_mean_the_teacher():
    # the tangent is linear in what leads, and the mean of x0 given x_t is what the exact teacher says
    schedule, f = LinearVP(), wavy(LinearVP())
    t, truth = noised(schedule)
    q, apart = gaussian(schedule)(truth.x, t), randn(N, 3, seed=5)
    for share in (0.0, 0.4, 1.0):
        either = [change(f, f(truth.x, t), q.with_x0(q.x0 + d), t, None, share) for d in (apart, -apart)]
        assert close((either[0] + either[1]) / 2, change(f, f(truth.x, t), q, t, None, share), 1e-9)


@pytest.mark.parametrize("parameterization", **named(v=V(), velocity=Velocity(), edm=EDM()))
@pytest.mark.parametrize("schedule", **named(flow=Flow(), cosine=Cosine()))
def test_without_signal_all_is_finite_and_nothing_is_to_change(schedule, parameterization):
    torch.manual_seed(0)
    f = Denoiser(stirred(MLPConfig(width=16, depth=1).build((3,))), schedule, parameterization)
    t = host([1.0, 1.0])
    truth = Prediction.of(DATA[:2], EPS[:2], schedule.at(t, like=DATA[:2]))
    found = change(f, f(truth.x, t), gaussian(schedule)(truth.x, t), t, None)
    assert close(found, 0 * DATA[:2], 1e-9)
    loss = ContinuousConsistency(times=UniformTimes()).taught_by(gaussian(schedule))
    value = loss(f, DATA[:2], torch.zeros(2, dtype=DOUBLE), None, lambda like: EPS[:2])
    value.sum().backward()
    assert value.isfinite().all()
    assert all(p.grad.isfinite().all() for p in f.parameters() if p.grad is not None)


# -------------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("done", [0, 250, 1000, 5000])
@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("schedule", **SMOOTH)
def test_the_gradient_is_that_of_v_against_the_normalised_tangent(schedule, taught, done):
    floor, share = 0.2, min(1.0, done / 1000)
    loss = ContinuousConsistency(taught=taught, floor=floor).taught_by(gaussian(schedule))
    f, memory = Nudged(wavy(schedule), 0.1), loss.memory()
    memory.done += done
    value = loss(f, DATA, U, None, lambda like: EPS, memory)
    value.sum().backward()
    t, truth = noised(schedule)
    leading = gaussian(schedule)(truth.x, t) if taught else truth
    g = change(f, f(truth.x, t), leading, t, None, share).detach()
    g = g / (g.square().mean(1, keepdim=True).sqrt() + floor)
    assert close(value, g.square().mean(1), 1e-9)
    slope = -truth.x.sin() / circle(truth.level)[1]  # d F / d weight: x0 moves F by -1 / sin
    assert close(turned(Nudged(wavy(schedule), 1.1)(truth.x, t)) - turned(f(truth.x, t)), slope, 1e-7)
    assert close(f.weight.grad, (-2 * g * slope).mean(1).sum(), 1e-9)


def test_the_warmup_counts_the_steps_done_and_is_over_without_memory():
    loss = ContinuousConsistency(taught=False, warmup=4)
    f, memory, found = wavy(Cosine()), loss.memory(), []

    def value(memory):
        return loss(f, DATA, U, None, lambda like: EPS, memory)

    t, truth = noised(Cosine())
    for _ in range(6):
        found.append(value(memory))
        loss.observe(memory, U, U)
    for done, one in enumerate(found):
        g = change(f, f(truth.x, t), truth, t, None, min(1.0, done / 4))
        expected = (g / (g.square().mean(1, keepdim=True).sqrt() + 0.1)).square().mean(1)
        assert close(one, expected, 1e-9)
    assert close(value(None), found[-1])
    assert not close(found[0], found[-1], 1e-3)
    without = ContinuousConsistency(taught=False, warmup=0)
    assert close(without(f, DATA, U, None, lambda like: EPS, without.memory()), found[-1])


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("settings", [{"floor": 0.0}, {"floor": math.nan}, {"warmup": -1}])
def test_numbers_out_of_their_range_are_refused(settings):
    with pytest.raises(ValueError, match=r"loss\.floor must be greater than 0 and loss\.warmup at least 0"):
        ContinuousConsistency(**settings)


def test_it_is_sampled_and_parameterized_as_consistency_models_are():
    loss = ContinuousConsistency()
    loss.check_sampling(Consistency(), Uniform(2), Cosine())
    with pytest.raises(ValueError, match=r"sampler\.kind=consistency"):
        loss.check_sampling(Heun(), Uniform(2), Cosine())
    with pytest.raises(ValueError, match=r"sampler\.kind=consistency"):
        loss.check_sampling(DDIM(), Uniform(2), Cosine())
    loss.check(LinearVP(), V())
    for parameterization, message in ((X0(), "puts out x0"), (LearnedVariance(Eps()), "puts out a variance")):
        with pytest.raises(ValueError, match=message):
            loss.check(LinearVP(), parameterization)
