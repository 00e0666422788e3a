"""Rectified flow once more, with the solution of the teacher's ODE in closed form."""

import pytest
import torch
from helpers import DOUBLE, Stub, close, every_schedule, named, randn, slope
from taught import MEAN, STD, Ends, Solving, gaussian, solved

from reverie.conditioning import Cond
from reverie.grids import Angle, Uniform
from reverie.losses import Denoising, Reflow, UniformTimes
from reverie.parameterizations import Eps, LearnedVariance, V
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Adams, Adaptive, Ancestral, Consistency, Heun
from reverie.sampling import generate
from reverie.schedules import Cosine, Flow, LinearVP

N = 16
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
DATA, EPS = MEAN + STD * randn(N, 3, seed=1), randn(N, 3, seed=2)


class Straight(torch.nn.Module):
    """Knows the line between noise and what the flow makes of it; moved by `weight` times sin(x)."""

    def __init__(self, f, weight=0.0):
        super().__init__()
        self.schedule, self.asked = f.schedule, []
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=DOUBLE))
        one, zero = torch.ones(1, dtype=DOUBLE), torch.zeros(1, dtype=DOUBLE)
        self.shift, above = (solved(f, self.schedule.sigma(one) * e * torch.ones(1, 3), one, zero) for e in (zero, one))
        self.factor = above - self.shift

    def forward(self, x, t, cond=None):
        self.asked.append((x.detach(), t, cond))
        level = self.schedule.at(t, like=x)
        eps = (x - level.alpha * self.shift) / (level.alpha * self.factor + level.sigma)
        return Prediction.from_x0(self.factor * eps + self.shift + self.weight * x.sin(), x, level)


def value(loss, f, data=DATA, cond=None):
    return loss(f, data, U, cond, lambda like: EPS)


@pytest.mark.parametrize("notation", ["flow", "x0", "v"])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_who_knows_the_lines_between_the_pairs_has_neither_loss_nor_gradient(schedule, notation):
    loss = Reflow(sampler=Solving(), loss=Denoising(notation, UniformTimes(0.05, 0.95))).taught_by(gaussian(schedule))
    f = Straight(gaussian(schedule))
    found = value(loss, f)
    found.sum().backward()
    assert close(found, torch.zeros(N), 1e-15)
    assert close(f.weight.grad, 0.0, 1e-6)
    for wrong in (Straight(gaussian(schedule), 0.1), gaussian(schedule), Ends(gaussian(schedule))):
        assert value(loss, wrong).mean() > 1e-4


@pytest.mark.parametrize("schedule", **named(flow=Flow(), cosine=Cosine(), linear_vp=LinearVP()))
def test_its_own_path_is_a_line_that_one_step_follows(schedule):
    f, one = Straight(gaussian(schedule)), torch.ones((), dtype=DOUBLE)
    x = schedule.sigma(one) * EPS
    for steps in (1, 2, 7):
        times = Uniform(steps)(schedule)
        made = generate(f, DDIM(), times, x)
        expected = solved(gaussian(schedule), x, one.expand(N), torch.zeros(N, dtype=DOUBLE))
        assert close(made, expected, 2 * float(schedule.alpha(one)) + 1e-9)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (Heun(), 2), (Adams(), 2)], ids=["ddim", "heun", "adams"])
def test_the_pairs_come_to_the_solution_of_the_flow_at_the_order_of_the_sampler(sampler, order):
    schedule, errors = Flow(), []
    exact = MEAN + STD * EPS
    for steps in (16, 32, 64, 128):
        f = Straight(gaussian(schedule))
        loss = Reflow(sampler=sampler, grid=Uniform(steps)).taught_by(gaussian(schedule))
        value(loss, f)
        ((x, t, _),) = f.asked
        assert close(t, loss.times_at(U, schedule))
        made = (x - t[:, None] * EPS) / (1 - t[:, None])
        expected = generate(gaussian(schedule), sampler, Uniform(steps)(schedule), EPS)
        assert close(made, expected, 1e-9)
        errors.append(float((made - exact).abs().max()))
    assert slope(errors) > order - 0.2
    assert errors[-1] < 0.06


def test_the_default_pairs_are_near_the_solution():
    f = Straight(gaussian(Flow()))
    value(Reflow().taught_by(gaussian(Flow())), f)
    ((x, t, _),) = f.asked
    assert ((x - t[:, None] * EPS) / (1 - t[:, None]) - (MEAN + STD * EPS)).abs().max() < 0.05


@pytest.mark.parametrize("start", [1.0, 0.8])
def test_the_way_begins_at_the_first_time_of_the_grid(start):
    schedule, f = LinearVP(), Straight(gaussian(LinearVP()))
    grid = Uniform(6, start=start)
    value(Reflow(sampler=DDIM(), grid=grid).taught_by(gaussian(schedule)), f)
    ((x, t, _),) = f.asked
    level = schedule.at(t, like=x)
    made = generate(gaussian(schedule), DDIM(), grid(schedule), schedule.sigma(torch.tensor(start).double()) * EPS)
    assert close(x, level.alpha * made + level.sigma * EPS, 1e-9)


def test_the_loss_of_the_pairs_is_the_one_inside():
    f, inside = Stub(Flow(), lambda x, t: x.tanh()), Denoising("v", UniformTimes(0.1, 0.9))
    loss = Reflow(sampler=Solving(), loss=inside).taught_by(gaussian(Flow()))
    assert close(value(loss, f), inside(f, MEAN + STD * EPS, U, None, lambda like: EPS), 1e-9)
    assert torch.equal(loss.times_at(U, Flow()), inside.times_at(U, Flow()))


def test_the_data_are_told_of_and_not_looked_at():
    f, cond = Straight(gaussian(Cosine())), Cond(label=torch.arange(N))
    loss = Reflow().taught_by(gaussian(Cosine()))
    assert torch.equal(value(loss, f, cond=cond), value(loss, f, 5 * DATA.flip(0) + 1, cond))
    assert all(told is cond for _, _, told in f.asked)


def test_no_gradient_flows_into_the_pairs():
    class Learning(Stub):
        def __init__(self):
            self.weight = torch.nn.Parameter(torch.tensor(0.3, dtype=DOUBLE))
            super().__init__(Cosine(), lambda x, t: self.weight * x)

    teacher, f = Learning(), Learning()
    value(Reflow().taught_by(teacher), f).sum().backward()
    assert teacher.weight.grad is None
    assert f.weight.grad.abs() > 0


# ------------------------------------------------------------------------------------- refusals


STOCHASTIC = named(
    ancestral=Ancestral(), ddim=DDIM(1.0), churn=Heun(churn=0.1), consistency=Consistency(), adaptive=Adaptive()
)


@pytest.mark.parametrize("sampler", **STOCHASTIC)
def test_samplers_that_lead_noise_to_no_one_sample_are_refused(sampler):
    with pytest.raises(ValueError, match=rf"loss\.sampler\.kind={sampler.kind} does not lead every noise to one"):
        Reflow(sampler=sampler)


def test_the_loss_inside_refuses_what_it_cannot_train():
    Reflow().check(Cosine(), V())
    with pytest.raises(ValueError, match="puts out a variance"):
        Reflow().check(LinearVP(), LearnedVariance(Eps()))


def test_its_students_are_sampled_as_any_others():
    for sampler, grid in ((DDIM(), Uniform(1)), (Heun(), Angle(5)), (Ancestral(), Uniform(50))):
        Reflow().check_sampling(sampler, grid, Cosine())
