"""Progressive distillation, with a teacher in closed form."""

from itertools import pairwise

import pytest
import torch
from helpers import DOUBLE, Stub, close, every_schedule, named, randn
from taught import gaussian

from reverie.grids import Angle, Karras, Knots, LogSNR, Uniform
from reverie.losses import Progressive, TruncatedSNR, Unit
from reverie.losses.teaching import landing
from reverie.parameterizations import Eps, LearnedVariance, V
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Heun
from reverie.sampling import generate
from reverie.schedules import Cosine, Flow, LinearVP
from reverie.tensors import host

STEPS = 4
U = (torch.arange(2 * STEPS, dtype=DOUBLE) + 0.5) / (2 * STEPS)
"""Two examples at each step."""
X0, EPS = randn(2 * STEPS, 3, seed=1), randn(2 * STEPS, 3, seed=2)


def grid(steps):
    return Uniform(steps, start=0.95)


class Already(torch.nn.Module):
    """The student that makes the steps of the teacher in one, moved by `weight` in a direction of its own."""

    def __init__(self, loss, teacher, weight=0.0):
        super().__init__()
        self.loss, self.teacher, self.schedule = loss, teacher, teacher.schedule
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=DOUBLE))

    def forward(self, x, t, cond=None):
        coarse = self.loss.grid(self.schedule)
        fine = self.loss.grid.with_steps(self.loss.substeps * (len(coarse) - 1))(self.schedule)
        x0 = torch.empty_like(x)
        for i, at in enumerate(host(t).expand(len(x))):
            first = int((fine - at).abs().argmin())
            z, begin, end = x[i : i + 1], fine[first], fine[first + self.loss.substeps]
            z = generate(self.teacher, DDIM(), fine[first : first + self.loss.substeps + 1], z)
            a, b = (self.schedule.at(s, like=z) for s in (begin, end))
            x0[i] = (a.sigma * z - b.sigma * x[i]) / (a.sigma * b.alpha - b.sigma * a.alpha)
        return Prediction.from_x0(x0 + self.weight * torch.sin(x), x, self.schedule.at(t, like=x))


@pytest.mark.parametrize("substeps", [1, 2, 3])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_target_lands_where_as_many_steps_of_the_teacher_do(schedule, substeps):
    loss, teacher, x = Progressive(grid=grid(STEPS), substeps=substeps), gaussian(schedule), randn(2 * STEPS, 3, seed=3)
    coarse, fine = grid(STEPS)(schedule), grid(substeps * STEPS)(schedule)
    path = loss.path(U, schedule)
    target = loss.target(teacher, x, path, None)
    assert close(path[0], loss.times_at(U, schedule))
    for i in range(2 * STEPS):
        k = i // 2
        assert close(path[:, i], fine[k * substeps : (k + 1) * substeps + 1])
        assert close(path[[0, -1], i], coarse[k : k + 2])
        expected = generate(teacher, DDIM(), path[:, i], x[i : i + 1])[0]
        end = schedule.at(path[-1, i], like=x)
        assert close(end.alpha * target.x0[i] + end.sigma * target.eps[i], expected, 1e-9)


def test_the_quantiles_0_and_1_are_the_first_and_the_last_step():
    loss = Progressive(grid=grid(STEPS))
    path = loss.path(torch.tensor([0.0, 0.2499999, 0.25, 1 - 2**-53], dtype=DOUBLE), Cosine())
    first, second = (grid(2 * STEPS)(Cosine())[i : i + 3] for i in (0, 2))
    for i, expected in enumerate([first, first, second, grid(2 * STEPS)(Cosine())[-3:]]):
        assert close(path[:, i], expected)


@pytest.mark.parametrize("substeps", [2, 3])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_student_that_makes_the_steps_already_has_neither_loss_nor_gradient(schedule, substeps):
    teacher = gaussian(schedule)
    loss = Progressive(grid=grid(STEPS), substeps=substeps).taught_by(teacher)
    f = Already(loss, teacher)
    value = loss(f, X0, U, None, lambda like: EPS)
    value.sum().backward()
    assert close(value, torch.zeros(2 * STEPS), 1e-14)
    assert close(f.weight.grad, 0.0, 1e-9)
    moved = Already(loss, teacher, 0.1)
    assert (loss(moved, X0, U, None, lambda like: EPS) > 1e-5).all()
    x = schedule.at(grid(1)(schedule)[0], like=X0).sigma * EPS
    student = generate(f, DDIM(), grid(STEPS)(schedule), x)
    assert close(student, generate(teacher, DDIM(), grid(substeps * STEPS)(schedule), x), 1e-8)


@pytest.mark.parametrize("notation", ["x0", "eps", "v", "score", "flow"])
def test_in_every_notation_it_is_the_squared_error_of_x0_times_the_snr_or_1(notation):
    schedule, teacher = LinearVP(), gaussian(LinearVP())
    f = Stub(schedule, lambda x, t: 0.3 * torch.tanh(x))
    loss = Progressive(grid=grid(STEPS), notation=notation).taught_by(teacher)
    value, seen = loss(f, X0, U, None, lambda like: EPS), set()
    fine = grid(2 * STEPS)(schedule)
    for i in range(2 * STEPS):
        k = 2 * (i // 2)
        a, b = schedule.at(fine[k], like=X0), schedule.at(fine[k + 2], like=X0)
        x = a.alpha * X0[i : i + 1] + a.sigma * EPS[i : i + 1]
        z = x
        for t, s in pairwise(fine[k : k + 3]):
            q, level = teacher(z, t), schedule.at(s, like=x)
            z = level.alpha * q.x0 + level.sigma * q.eps
        snr = (a.alpha / a.sigma) ** 2
        seen.add(bool(snr > 1))
        error = f(x, fine[k]).x0 - landing(x, a, z, b).x0
        assert close(value[i] / (snr.clamp(min=1) * error.square().mean()), 1.0, 1e-9)
    assert seen == {True, False}


def test_the_weight_is_a_setting():
    teacher, f = gaussian(LinearVP()), Stub(LinearVP(), lambda x, t: 0.3 * x)
    plain, weighed = (
        Progressive(grid=grid(STEPS), weight=weight).taught_by(teacher)(f, X0, U, None, lambda like: EPS)
        for weight in (Unit(), TruncatedSNR())
    )
    snr = LinearVP().log_snr(Progressive(grid=grid(STEPS)).times_at(U, LinearVP())).exp()
    assert close(weighed / plain, snr.clamp(min=1), 1e-9)


def test_no_gradient_flows_into_the_teacher():
    class Learning(Stub):
        def __init__(self, schedule):
            self.weight = torch.nn.Parameter(torch.tensor(0.3, dtype=DOUBLE))
            super().__init__(schedule, lambda x, t: self.weight * x)

    teacher, f = Learning(Cosine()), Learning(Cosine())
    Progressive().taught_by(teacher)(f, X0, U, None, lambda like: EPS).sum().backward()
    assert teacher.weight.grad is None
    assert f.weight.grad.abs() > 0


# ------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("spacing", **named(angle=Angle(4), karras=Karras(4), log_snr=LogSNR(4)))
def test_grids_whose_times_move_with_their_number_are_refused(spacing):
    with pytest.raises(ValueError, match=rf"grid\.kind={spacing.kind} with 2 times .* use loss\.grid\.kind=uniform"):
        Progressive(grid=spacing).check(Cosine(), V())


@pytest.mark.parametrize("spacing", **named(uniform=Uniform(5), from_below=grid(3), knots=Knots(1000, steps=5)))
@pytest.mark.parametrize("substeps", [2, 5])
def test_grids_that_nest_are_taken(spacing, substeps):
    Progressive(grid=spacing, substeps=substeps).check(Cosine(), V())


def test_its_own_steps_of_ddim_are_the_only_way_to_sample():
    loss = Progressive(grid=Uniform(4))
    loss.check_sampling(DDIM(), Uniform(4), Flow())
    loss.check_sampling(DDIM(), Knots(1000, steps=4), Flow())
    message = r"learned the 4 steps of DDIM on its own grid and no others; given {} of {} on the grid {}"
    for sampler, other, given in (
        (DDIM(), Uniform(3), (3, "ddim", "uniform")),
        (DDIM(), Uniform(8), (8, "ddim", "uniform")),
        (DDIM(), grid(4), (4, "ddim", "uniform")),
        (DDIM(), Angle(4), (4, "ddim", "angle")),
        (DDIM(0.5), Uniform(4), (4, "ddim", "uniform")),
        (Heun(), Uniform(4), (4, "heun", "uniform")),
    ):
        with pytest.raises(ValueError, match=message.format(*given)):
            loss.check_sampling(sampler, other, Flow())


def test_networks_that_put_out_a_variance_are_refused():
    with pytest.raises(ValueError, match=r"LearnedVariance puts out a variance, which loss\.kind=progressive"):
        Progressive().check(LinearVP(), LearnedVariance(Eps()))


def test_there_is_at_least_one_substep():
    with pytest.raises(ValueError, match=r"loss\.substeps must be at least 1; given 0"):
        Progressive(substeps=0)
