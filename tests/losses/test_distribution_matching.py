"""Distribution matching, with teachers and rivals in closed form."""

import math

import pytest
import torch
from helpers import DOUBLE, close, every_schedule, named, noise_from, randn, seeded
from taught import MEAN, STD, Ends, gaussian

from reverie.conditioning import Cond
from reverie.grids import Angle, Uniform
from reverie.losses import DistributionMatching, UniformTimes
from reverie.losses.distribution_matching import Rival
from reverie.parameterizations import X0, Eps, LearnedVariance, V
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Ancestral, Consistency, Heun
from reverie.sampling import generate
from reverie.schedules import Cosine, Flow, LinearVP

N = 24
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
DATA, EPS = MEAN + STD * randn(N, 3, seed=1), randn(N, 3, seed=2)
TIMES = UniformTimes(0.05, 0.95)


class Model(torch.nn.Module):
    """The exact denoiser of a Gaussian with a mean that can be learned."""

    def __init__(self, schedule, mean=MEAN, parameterization=None):
        super().__init__()
        self.schedule, self.parameterization = schedule, parameterization or V()
        self.mean = torch.nn.Parameter(mean.clone())

    def forward(self, x, t, cond=None):
        level = self.schedule.at(t, like=x)
        variance = (level.alpha * STD) ** 2 + level.sigma**2
        x0 = self.mean + level.alpha * STD**2 / variance * (x - level.alpha * self.mean)
        return Prediction.from_x0(x0, x, level)


class Drawing(torch.nn.Module):
    """A student that says x0 as it was given, of whatever x."""

    def __init__(self, schedule, x0):
        super().__init__()
        self.schedule = schedule
        self.x0 = torch.nn.Parameter(x0.clone())

    def forward(self, x, t, cond=None):
        return Prediction.from_x0(1 * self.x0, x, self.schedule.at(t, like=x))


class Run:
    """A run whose teacher is a model."""

    shape = (3,)

    def __init__(self, teacher):
        self.teacher = teacher

    def stage(self, name):
        assert name == "teacher"
        return self.teacher


def rival(schedule, mean, done=0, parameterization=None):
    made = Rival(Model(schedule, mean, parameterization))
    made.done += done
    return made


def noise(like):
    return EPS[: len(like)]


def noised(made, schedule):
    """What is made with noise EPS, at the levels that the loss then has, whose quantiles are those of EPS."""
    t = TIMES(torch.special.ndtr(EPS[:, 0]), schedule)
    return t, Prediction.of(made, EPS, schedule.at(t, like=made))


# -------------------------------------------------------------------------------------- the student


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_gradient_of_a_sample_is_the_weighed_difference_of_the_two_denoisers(schedule):
    teacher, fake, f = gaussian(schedule), rival(schedule, MEAN + 1.5), Drawing(schedule, DATA)
    DistributionMatching(times=TIMES).taught_by(teacher)(f, DATA, U, None, noise, fake).sum().backward()
    t, y = noised(DATA, schedule)
    real, said = teacher(y.x, t).x0, fake.denoiser(y.x, t).x0
    weight = (DATA - real).abs().mean(1, keepdim=True)
    expected = ((said - real) / weight / 3).detach()
    assert close(f.x0.grad, expected, 1e-9)
    assert (f.x0.grad > 0).all()  # a step against it moves the samples down, away from where the rival puts them


@pytest.mark.parametrize("schedule", **every_schedule)
def test_where_the_rival_says_what_the_teacher_says_nothing_moves(schedule):
    f = Drawing(schedule, DATA)
    loss = DistributionMatching(times=TIMES).taught_by(gaussian(schedule))
    loss(f, DATA, U, None, noise, rival(schedule, MEAN)).sum().backward()
    assert close(f.x0.grad, 0 * DATA, 1e-9)


def test_the_gradient_leads_the_law_of_the_samples_to_that_of_the_data():
    # samples around 0, whose exact denoiser the rival is: a step moves their mean towards that of the data
    schedule, x0 = Cosine(), STD * randn(4000, 3, seed=4)
    f, draw = Drawing(schedule, x0), noise_from(seeded(5))
    u = (torch.arange(4000, dtype=DOUBLE) + 0.5) / 4000
    fake = rival(schedule, torch.zeros(3, dtype=DOUBLE))
    DistributionMatching(times=TIMES).taught_by(gaussian(schedule))(f, x0, u, None, draw, fake).sum().backward()
    assert torch.equal((-f.x0.grad).mean(0).sign(), MEAN.sign())
    assert torch.equal((-f.x0.grad).sign(), MEAN.sign().expand(4000, 3))  # all Gaussians here are equally wide


def test_a_sample_that_the_teacher_says_itself_is_divided_by_no_0():
    class Echo(Model):
        def forward(self, x, t, cond=None):
            return Prediction.from_x0(DATA + 0 * self.mean, x, self.schedule.at(t, like=x))

    f = Drawing(Cosine(), DATA)
    value = DistributionMatching().taught_by(Echo(Cosine()))(f, DATA, U, None, noise, rival(Cosine(), MEAN))
    value.sum().backward()
    assert value.isfinite().all()
    assert f.x0.grad.isfinite().all()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_the_student_moves_in_one_of_so_many_steps_and_the_rival_in_all(every):
    f, loss = Drawing(Cosine(), DATA), DistributionMatching(every=every).taught_by(gaussian(Cosine()))
    fake = rival(Cosine(), MEAN + 1.0)
    for done in range(7):
        f.zero_grad()
        fake.zero_grad()
        loss(f, DATA, U, None, noise, fake).sum().backward()
        moved = f.x0.grad is not None and bool((f.x0.grad != 0).any())
        assert moved is (done % every == 0)
        assert fake.denoiser.mean.grad.abs().min() > 0
        loss.observe(fake, U, U)
    assert int(fake.done) == 7


def test_without_a_gradient_to_be_taken_none_is_asked_for():
    class Watched(Drawing):
        def forward(self, x, t, cond=None):
            assert not torch.is_grad_enabled()
            return super().forward(x, t, cond)

    f, loss = Watched(Cosine(), DATA), DistributionMatching().taught_by(gaussian(Cosine()))
    with torch.no_grad():
        assert not loss(f, DATA, U, None, noise, rival(Cosine(), MEAN)).requires_grad


# ---------------------------------------------------------------------------------------- the rival


@pytest.mark.parametrize("parameterization", **named(v=V(), eps=Eps(), x0=X0()))
def test_the_rival_learns_to_denoise_the_samples_and_nothing_else_of_the_loss(parameterization):
    schedule, teacher = LinearVP(), Model(LinearVP())
    fake, f = rival(schedule, MEAN + 1.5, parameterization=parameterization), Drawing(schedule, DATA)
    loss = DistributionMatching(times=TIMES).taught_by(teacher)
    value = loss(f, DATA, U, None, noise, fake)
    value.sum().backward()
    t, y = noised(DATA, schedule)
    q = fake.denoiser(y.x, t)
    error = {"v": q.v - y.v, "eps": q.eps - y.eps, "x0": q.x0 - y.x0}[parameterization.kind]
    own = error.square().mean(1)
    (expected,) = torch.autograd.grad(own.sum(), fake.denoiser.mean)
    assert close(fake.denoiser.mean.grad, expected, 1e-9)
    pull = (q.x0 - teacher(y.x, t).x0) / (DATA - teacher(y.x, t).x0).abs().mean(1, keepdim=True)
    assert close(value, own + pull.square().mean(1) / 2, 1e-9)
    assert teacher.mean.grad is None


def test_no_gradient_reaches_the_student_from_what_the_rival_learns():
    # in a step that is not the student's, and otherwise no matter by how much the rival is off
    schedule, f = Cosine(), Drawing(Cosine(), DATA)
    fake = rival(schedule, MEAN, parameterization=Eps())
    DistributionMatching().taught_by(gaussian(schedule))(f, DATA, U, None, noise, fake).sum().backward()
    assert fake.denoiser.mean.grad.abs().max() > 1e-3
    assert close(f.x0.grad, 0 * DATA, 1e-9)


def test_the_rival_begins_as_a_copy_of_the_teacher_and_there_is_none_without_a_run():
    teacher = Model(Cosine()).eval().requires_grad_(False)
    memory = DistributionMatching().memory(Run(teacher))
    assert torch.equal(memory.denoiser.mean, teacher.mean)
    assert memory.denoiser.mean is not teacher.mean
    assert memory.denoiser.mean.requires_grad
    assert memory.denoiser.training
    assert int(memory.done) == 0
    assert DistributionMatching().memory() is None
    loss, f = DistributionMatching(times=TIMES).taught_by(gaussian(Cosine())), Drawing(Cosine(), DATA)
    t, y = noised(DATA, Cosine())
    expected = (DATA - gaussian(Cosine())(y.x, t).x0).square().mean(1)
    assert close(loss(f, DATA, U, None, noise), expected, 1e-9)


def test_what_is_learned_beside_the_model_is_clipped_apart():
    assert DistributionMatching().apart


# ------------------------------------------------------------------------------------ its own steps


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("schedule", **named(flow=Flow(), linear_vp=LinearVP(), cosine=Cosine()))
def test_each_step_begins_where_the_students_own_steps_before_come(schedule, steps):
    f, loss = Ends(gaussian(schedule)), DistributionMatching(grid=Uniform(steps))
    times = Uniform(steps)(schedule)
    found = loss.begin(f, DATA, U, None, noise)
    at = loss.times_at(U, schedule)
    for i in range(N):
        k, one = i * steps // N, slice(i, i + 1)
        assert at[i] == times[k]
        x = schedule.sigma(times[0]) * EPS[one]
        if k:
            x = generate(f, Consistency(), times[: k + 1], x, None, lambda like, one=one: EPS[one])
        assert close(found[one], x, 1e-9)


def test_the_student_is_asked_at_its_own_steps_and_no_gradient_flows_through_those_before():
    class Watched(Drawing):
        def forward(self, x, t, cond=None):
            asked.append((x, t, cond, torch.is_grad_enabled()))
            return super().forward(x, t, cond)

    asked, cond = [], Cond(label=torch.arange(N))
    f, grid = Watched(Cosine(), DATA), Uniform(3)
    loss = DistributionMatching(grid=grid).taught_by(gaussian(Cosine()))
    loss(f, DATA, U, cond, noise, rival(Cosine(), MEAN)).sum().backward()
    *before, (x, t, _, enabled) = asked
    assert [one[3] for one in before] == [False, False]
    assert enabled
    assert all(one[2] is cond for one in asked)
    assert close(t, loss.times_at(U, Cosine()))
    assert close(x, loss.begin(f, DATA, U, cond, noise), 1e-12)
    assert not x.requires_grad


# ------------------------------------------------------------------------------------- refusals


def test_its_own_steps_are_the_only_way_to_sample():
    loss = DistributionMatching(grid=Uniform(4))
    loss.check_sampling(Consistency(), Uniform(4), Cosine())
    for grid, steps in ((Uniform(3), 3), (Uniform(8), 8), (Angle(4), 4), (Uniform(4, start=0.9), 4)):
        with pytest.raises(ValueError, match=f"learned the 4 steps .* and no others; given {steps} of consistency"):
            loss.check_sampling(Consistency(), grid, Cosine())
    for sampler in (DDIM(), Heun(), Ancestral()):
        with pytest.raises(ValueError, match=r"sampler\.kind=consistency"):
            loss.check_sampling(sampler, Uniform(4), Cosine())
    DistributionMatching().check_sampling(DDIM(), Uniform(1), Cosine())  # one step is the same


def test_several_scales_make_several_laws_and_are_refused():
    with pytest.raises(ValueError, match=r"guidance of 1 to 4 makes many: give one scale, such as loss\.guidance="):
        DistributionMatching(guidance=(1.0, 4.0))
    assert not DistributionMatching(guidance=(2.0, 2.0)).scales


@pytest.mark.parametrize("every", [0, -1])
def test_the_student_moves_in_one_step_of_at_least_one(every):
    with pytest.raises(ValueError, match=rf"loss\.every must be at least 1; given {every}"):
        DistributionMatching(every=every)


def test_networks_that_put_out_a_variance_are_refused():
    for parameterization in (V(), X0()):  # it asks for no x0 where there is no noise
        DistributionMatching().check(LinearVP(), parameterization)
    with pytest.raises(ValueError, match="puts out a variance"):
        DistributionMatching().check(LinearVP(), LearnedVariance(Eps()))


def test_the_levels_have_the_stated_density():
    class Watched(Model):
        def forward(self, x, t, cond=None):
            asked.append(t)
            return super().forward(x, t, cond)

    asked, n = [], 1000
    z = torch.special.ndtri((torch.arange(n, dtype=DOUBLE) + 0.5) / n)[:, None].expand(n, 3)
    f, u = Drawing(Cosine(), z), torch.full((n,), 0.5, dtype=DOUBLE)
    DistributionMatching(times=TIMES).taught_by(Watched(Cosine()))(f, z, u, None, lambda like: z)
    assert close(asked[0], TIMES((torch.arange(n, dtype=DOUBLE) + 0.5) / n, Cosine()), 1e-9)
    assert math.isclose(float(asked[0].mean()), 0.5, abs_tol=1e-3)
