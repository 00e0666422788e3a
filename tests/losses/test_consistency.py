"""Consistency models, with a teacher and a consistency function in closed form."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers import DOUBLE, Stub, close, every_schedule, named, noise_from, randn, seeded
from taught import MEAN, STD, Ends, Solving, gaussian, solved

from reverie.conditioning import Cond
from reverie.exact import Gaussian
from reverie.grids import Angle, Karras, LogSNR, Uniform
from reverie.losses import ConsistencyMatching, UniformTimes
from reverie.losses.consistency import pseudo_huber
from reverie.parameterizations import EDM, X0, Eps, LearnedVariance, V, Velocity
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Adams, Ancestral, Consistency, Heun
from reverie.sampling import generate, prior
from reverie.schedules import VE, Cosine, Flow, LinearVP

N = 64
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
DATA, EPS = MEAN + STD * randn(N, 3, seed=1), randn(N, 3, seed=2)


class Nudged(torch.nn.Module):
    """A denoiser whose x0 is moved by `weight` times sin(x); it does not know t = 0."""

    def __init__(self, f, weight=0.0):
        super().__init__()
        self.f, self.schedule, self.asked = f, f.schedule, []
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=DOUBLE))

    def forward(self, x, t, cond=None):
        assert (t > 0).all()
        self.asked.append(t)
        return Prediction.from_x0(self.f(x, t).x0 + self.weight * x.sin(), x, self.schedule.at(t, like=x))


def value(loss, f, u=U):
    return loss(f, DATA[: len(u)], u, None, lambda like: EPS[: len(u)], loss.memory())


def ratio(schedule, t):
    return schedule.sigma(t) / schedule.alpha(t)


@pytest.mark.parametrize("sampler", **named(solved=Solving(), heun=Heun(), ddim=DDIM()))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_it_is_the_penalty_of_the_difference_of_neighbours_over_their_distance(schedule, sampler):
    f, teacher = Stub(schedule, lambda x, t: (0.5 + t[:, None]) * x.tanh()), gaussian(schedule)
    loss = ConsistencyMatching(sampler=sampler, most=12).taught_by(teacher)
    found = value(loss, f)
    t, s = loss.neighbours(U, schedule, 12)
    for i in range(N):
        one = slice(i, i + 1)
        a = schedule.at(t[i], like=DATA)
        x = a.alpha * DATA[one] + a.sigma * EPS[one]
        x_s = sampler.step(teacher, x, t[i], s[i], None, torch.zeros_like, sampler.init())[0]
        wanted = f.x0(x_s, s[one]) if s[i] > 0 else x_s
        size = (f.x0(x, t[one]) - wanted).square().mean().sqrt()
        distance = ratio(schedule, t[i]) - ratio(schedule, s[i])
        assert close(found[i], ((size**2 + 0.00054**2).sqrt() - 0.00054) / distance, 1e-7)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_consistency_function_has_neither_loss_nor_gradient(schedule):
    loss = ConsistencyMatching(sampler=Solving()).taught_by(gaussian(schedule))
    f = Nudged(Ends(gaussian(schedule)))
    found = value(loss, f)
    found.sum().backward()
    assert close(found, torch.zeros(N), 1e-15)
    assert close(f.weight.grad, 0.0, 1e-7)
    for wrong in (Nudged(Ends(gaussian(schedule)), 0.1), gaussian(schedule)):
        assert value(loss, wrong).sum() > 1e-2


@pytest.mark.parametrize("taught", [True, False])
def test_the_gradient_is_through_the_noisier_of_the_two_alone(taught):
    schedule, w = Cosine(), 0.1
    loss = ConsistencyMatching(taught=taught, sampler=Solving(), most=40).taught_by(gaussian(schedule))
    f, ends = Nudged(Ends(gaussian(schedule)), w), gaussian(schedule)
    value(loss, f).sum().backward()
    t, s = loss.neighbours(U, schedule, 40)
    a, b = schedule.at(t, like=DATA), schedule.at(s, like=DATA)
    x = a.alpha * DATA + a.sigma * EPS
    x_s = solved(ends, x, t, s) if taught else b.alpha * DATA + b.sigma * EPS
    zero = torch.zeros_like(t)
    wanted = solved(ends, x_s, s, zero) + w * x_s.sin() * (s > 0)[:, None]
    error = solved(ends, x, t, zero) + w * x.sin() - wanted
    slope = (error * x.sin()).mean(1) / (error.square().mean(1) + 0.00054**2).sqrt()
    assert close(f.weight.grad, (slope / (ratio(schedule, t) - ratio(schedule, s))).sum(), 1e-9)


class Consistent(Gaussian):
    """x0 is where the flow ODE ends that passes x."""

    def __call__(self, x, t, cond=None):
        return Prediction.from_x0(self.solution(x, t, 0.0), x, self.schedule.at(t, like=x))


def expected_slope(f, steps):
    """The mean of the gradient over x0 and eps, by quadrature, at one step of a grid of so many."""
    nodes, w = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(32))
    w = (w / w.sum())[:, None] * (w / w.sum())
    data = 0.4 + 0.6 * nodes.repeat_interleave(32)[:, None]
    g = Nudged(f)
    loss = ConsistencyMatching(taught=False, most=steps)
    u = torch.full((len(data),), 0.4, dtype=DOUBLE)
    found = loss(g, data, u, None, lambda like: nodes.repeat(32)[:, None])
    (slope,) = torch.autograd.grad((w.flatten() * found).sum(), g.weight)
    return abs(float(slope))


@pytest.mark.parametrize("schedule", **named(ve=VE(0.002, 80.0), flow=Flow(), cosine=Cosine(), linear_vp=LinearVP()))
def test_without_a_teacher_the_mean_gradient_at_the_consistency_function_falls_with_the_step(schedule):
    settings = schedule, torch.tensor([0.4], dtype=DOUBLE), 0.6
    right, wrong = (
        [expected_slope(f, 2**k) for k in (18, 19, 20)] for f in (Consistent(*settings), Gaussian(*settings))
    )
    assert 1.8 < right[1] / right[2] < 2.2
    assert right[2] < 0.02 * wrong[2]
    assert 0.8 < wrong[1] / wrong[2] < 1.25


# --------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("grid", **named(karras=Karras(), uniform=Uniform(), log_snr=LogSNR(), angle=Angle()))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_two_times_are_neighbours_on_the_grid_around_that_which_was_drawn(schedule, grid):
    loss, times = ConsistencyMatching(grid=grid, times=UniformTimes(1e-9)), grid.with_steps(7)(schedule)
    u = torch.cat([(torch.arange(4000, dtype=DOUBLE) + 0.5) / 4000, torch.tensor([0.0, 1 - 2**-53], dtype=DOUBLE)])
    t, s = loss.neighbours(u, schedule, 7)
    drawn = loss.times_at(u, schedule)
    found, steps = set(zip(t.tolist(), s.tolist(), strict=True)), list(pairwise(times.tolist()))
    assert found <= set(steps)
    assert {steps[0], steps[-1]} <= found
    assert (s < drawn).all()
    assert ((drawn <= t) | (t == times[0])).all()


def test_a_time_on_the_grid_is_the_upper_of_the_two():
    class Given(UniformTimes):
        def __call__(self, u, schedule):
            return u

    times = Uniform(5)(Flow())
    t, s = ConsistencyMatching(grid=Uniform(), times=Given()).neighbours(times[:-1], Flow(), 5)
    assert torch.equal(t, times[:-1])
    assert torch.equal(s, times[1:])


def test_the_steps_of_the_grid_double_with_those_of_training():
    loss = ConsistencyMatching(taught=False, first=3, most=20, doubling=2, grid=Uniform(), times=UniformTimes())
    memory, found = loss.memory(), []
    for _ in range(9):
        found.append(loss.steps(memory))
        f = Nudged(gaussian(Flow()))
        loss(f, DATA, U, None, lambda like: EPS, memory)
        times = Uniform(found[-1])(Flow())
        assert set(f.asked[-1].tolist()) == set(times[:-1].tolist())
        loss.observe(memory, U, U)
    assert found == [3, 3, 6, 6, 12, 12, 20, 20, 20]
    assert loss.steps(None) == 20
    memory.done += 10**9
    assert loss.steps(memory) == 20
    constant = ConsistencyMatching(first=3, most=20)
    assert constant.steps(constant.memory()) == 20


@pytest.mark.parametrize("taught", [True, False])
def test_in_the_last_interval_the_second_term_is_x_itself(taught):
    schedule = VE(0.1, 20.0)
    teacher = Nudged(gaussian(schedule))  # it does not know t = 0 either
    loss = ConsistencyMatching(taught=taught, first=6, most=6, grid=Karras(low=0.3), times=UniformTimes()).taught_by(
        teacher
    )
    f = Nudged(gaussian(schedule), 0.2)
    t, s = loss.neighbours(U, schedule, 6)
    last = s == 0
    assert 0 < int(last.sum()) < N
    found = value(loss, f)[last]
    x = DATA[last] + 0.3 * EPS[last]
    wanted = teacher(x, t[last]).x0 if taught else DATA[last]
    assert close(found, pseudo_huber(f(x, t[last]).x0 - wanted) / 0.3, 1e-6)
    assert value(loss, f, torch.full((4,), 1 - 1e-12, dtype=DOUBLE)).isfinite().all()


def test_the_condition_is_told_to_both():
    class Watched(Stub):
        def __call__(self, x, t, cond=None):
            seen.append(cond)
            return super().__call__(x, t)

    seen, cond = [], Cond(label=torch.arange(N))
    f = Watched(Flow(), lambda x, t: x)
    ConsistencyMatching(taught=False)(f, DATA, U, cond, lambda like: EPS)
    assert len(seen) == 2
    assert all(one is cond for one in seen)


def test_the_penalty_is_a_square_near_0_and_the_size_far_away_and_has_a_slope_at_0():
    error = torch.tensor([[0.0, 0.0], [3.0, 4.0], [1e-7, -1e-7], [0.00054, 0.00054]], dtype=DOUBLE, requires_grad=True)
    found, c = pseudo_huber(error), 0.00054
    expected = torch.tensor([0, math.sqrt(12.5 + c**2) - c, 1e-14 / (2 * c), c * (math.sqrt(2) - 1)], dtype=DOUBLE)
    assert close(found / expected.clamp_min(1e-30), (expected > 0).double(), 1e-6)
    found.sum().backward()
    assert torch.equal(error.grad[0], torch.zeros(2, dtype=DOUBLE))
    assert close(error.grad[1], error[1].detach() / 2 / math.sqrt(12.5 + c**2), 1e-9)
    small = torch.zeros(3, 5, requires_grad=True)
    pseudo_huber(small).sum().backward()
    assert torch.equal(small.grad, torch.zeros(3, 5))
    wide = torch.full((1, 1000), 0.1, dtype=DOUBLE)
    assert close(pseudo_huber(wide), pseudo_huber(wide[:, :1]))


# ------------------------------------------------------------------------------------ sampling


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("schedule", **named(flow=Flow(), cosine=Cosine()))
def test_what_it_draws_in_any_number_of_steps_has_the_law_of_the_data(schedule, steps):
    n, noise = 20_000, noise_from(seeded(steps))
    times = Uniform(steps)(schedule)
    x = prior(schedule, times[0], torch.zeros(n, 3, dtype=DOUBLE), noise)
    z = (generate(Ends(gaussian(schedule)), Consistency(), times, x, None, noise) - MEAN) / STD
    # z is standard normal: of 3 means and 6 moments none is 5 standard errors off but in 1 of 190,000 runs
    moments = z.T @ z / n
    spread = (torch.ones(3, 3, dtype=DOUBLE) + torch.eye(3, dtype=DOUBLE)).sqrt()
    assert (z.mean(0).abs() * math.sqrt(n) < 5).all()
    assert ((moments - torch.eye(3, dtype=DOUBLE)).abs() * math.sqrt(n) < 5 * spread).all()


def test_only_samplers_that_ask_where_the_path_ends_are_taken():
    loss = ConsistencyMatching()
    for steps in (1, 2, 9):
        loss.check_sampling(Consistency(), Karras(steps), Cosine())
    loss.check_sampling(DDIM(), Uniform(1), Cosine())
    for sampler, grid in (
        (DDIM(), Uniform(2)),
        (Heun(), Uniform(1)),
        (DDIM(0.5), Uniform(1)),
        (Ancestral(), Karras(4)),
    ):
        with pytest.raises(ValueError, match=rf"{sampler.kind} needs to know .* sampler\.kind=consistency"):
            loss.check_sampling(sampler, grid, Cosine())


# ------------------------------------------------------------------------------------ refusals


def test_networks_that_put_out_x0_or_a_variance_are_refused():
    with pytest.raises(ValueError, match=r"use parameterization\.kind=v, edm, velocity or eps"):
        ConsistencyMatching().check(LinearVP(), X0())
    with pytest.raises(ValueError, match=r"puts out a variance, which loss\.kind=consistency"):
        ConsistencyMatching().check(LinearVP(), LearnedVariance(Eps()))
    for parameterization in (V(), EDM(), Velocity(), Eps()):
        ConsistencyMatching().check(LinearVP(), parameterization)


@pytest.mark.parametrize(
    "sampler", **named(ancestral=Ancestral(), ddim=DDIM(1.0), churn=Heun(churn=0.1), adams=Adams())
)
def test_samplers_that_draw_noise_or_look_back_lead_no_single_step(sampler):
    with pytest.raises(ValueError, match=rf"loss\.sampler\.kind={sampler.kind} draws noise or looks back"):
        ConsistencyMatching(sampler=sampler)


@pytest.mark.parametrize("settings", [{"first": 0}, {"first": 20, "most": 10}, {"doubling": -1}])
def test_numbers_of_steps_that_make_no_grids_are_refused(settings):
    with pytest.raises(ValueError, match=r"loss\.first and loss\.most are the steps of a grid"):
        ConsistencyMatching(**settings)
