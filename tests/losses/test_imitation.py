"""To say what the teacher says, with the denoiser of a Gaussian in closed form."""

import pytest
import torch
from helpers import DOUBLE, Stub, close, every_schedule, named, randn
from taught import MEAN, STD, Ends, gaussian

from reverie.grids import Uniform
from reverie.losses import Denoising, Imitation, UniformTimes
from reverie.parameterizations import EDM, Eps, LearnedVariance, V, Velocity
from reverie.prediction import Prediction
from reverie.samplers import Heun
from reverie.sampling import generate
from reverie.schedules import Cosine, Flow, LinearVP

N = 16
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
DATA, EPS = MEAN + STD * randn(N, 3, seed=1), randn(N, 3, seed=2)


class Moved(torch.nn.Module):
    """Another denoiser, moved by `weight` times sin(x)."""

    def __init__(self, of, weight=0.0):
        super().__init__()
        self.of, self.schedule, self.asked = of, of.schedule, []
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=DOUBLE))

    def forward(self, x, t, cond=None):
        self.asked.append((x.detach(), t, cond))
        said = self.of(x, t, cond)
        return Prediction.from_x0(said.x0 + self.weight * x.sin(), x, said.level)


def value(loss, f, cond=None):
    return loss(f, DATA, U, cond, lambda like: EPS)


@pytest.mark.parametrize("notation", ["x0", "v", "flow"])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_who_says_what_the_teacher_says_has_neither_loss_nor_gradient(schedule, notation):
    teacher = gaussian(schedule)
    loss = Imitation(loss=Denoising(notation, UniformTimes(0.05, 0.95))).taught_by(teacher)
    f = Moved(teacher)
    found = value(loss, f)
    found.sum().backward()
    assert close(found, torch.zeros(N), 1e-20)
    assert close(f.weight.grad, 0.0, 1e-9)
    for wrong in (Moved(teacher, 0.1), Ends(teacher)):
        assert value(loss, wrong).mean() > 1e-5


def test_the_truth_is_the_teacher_and_not_the_data():
    schedule = Cosine()
    f, inside = Stub(schedule, lambda x, t: x.tanh()), Denoising("x0", UniformTimes(0.1, 0.9))
    teacher = gaussian(schedule)
    t = inside.times_at(U, schedule)
    truth = Prediction.of(DATA, EPS, schedule.at(t, like=DATA))
    expected = (f(truth.x, t).x0 - teacher(truth.x, t).x0).square().mean(1)
    loss = Imitation(loss=inside).taught_by(teacher)
    assert close(value(loss, f), expected)
    assert torch.equal(loss.times_at(U, schedule), t)
    assert not close(expected, inside(f, DATA, U, None, lambda like: EPS), 1e-2)


def test_in_a_denoising_loss_and_in_this_one_the_same_denoiser_is_the_best():
    """With all the data there are, their gradients agree: E[x0 | x_t] is the mean of what the data say."""
    schedule, inside = Flow(), Denoising("x0", UniformTimes(0.3, 0.7))
    many = 40_000
    data, noise = MEAN + STD * randn(many, 3, seed=3), randn(many, 3, seed=4)
    u, found = torch.rand(many, dtype=DOUBLE, generator=torch.Generator().manual_seed(5)), []
    for loss in (inside, Imitation(loss=inside).taught_by(gaussian(schedule))):
        f = Moved(gaussian(schedule), 0.2)
        each = loss(f, data, u, None, lambda like: noise)
        each.mean().backward()
        found.append(float(f.weight.grad))
    # the difference is a mean of products of sin(x) and data less their mean, both below 5 in size: 5 / sqrt(N) = 0.025
    assert abs(found[0] - found[1]) < 0.15 * abs(found[1])


def test_its_student_is_a_model_that_any_solver_samples():
    schedule = Flow()
    loss = Imitation()
    assert loss.flows
    loss.check_sampling(Heun(), Uniform(7), schedule)
    times = Uniform(7)(schedule)
    made = generate(Moved(gaussian(schedule)), Heun(), times, EPS)
    assert close(made, generate(gaussian(schedule), Heun(), times, EPS))


def test_no_gradient_flows_into_the_teacher():
    teacher, f = Moved(gaussian(Cosine()), 0.3), Moved(gaussian(Cosine()), 0.1)
    value(Imitation().taught_by(teacher), f).sum().backward()
    assert teacher.weight.grad is None
    assert f.weight.grad.abs() > 0


@pytest.mark.parametrize("output", **named(v=V(), edm=EDM(), velocity=Velocity()))
@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), flow=Flow()))
def test_what_the_student_may_put_out(schedule, output):
    Imitation().check(schedule, output)


def test_what_it_may_not_put_out_is_named():
    with pytest.raises(ValueError, match="puts out a variance"):
        Imitation().check(LinearVP(), LearnedVariance(Eps()))
    outweighed = Imitation(loss=Denoising("score"))
    with pytest.raises(ValueError, match=r"use loss\.loss\.notation=v"):
        outweighed.check(Cosine(), V())
