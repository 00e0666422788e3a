"""Models of steps of any length, with the mean of the flow in closed form."""

import numpy as np
import pytest
import torch
from helpers import DOUBLE, Stub, close, every_schedule, named, noise_from, randn, seeded, stirred
from taught import MEAN, STD, Ends, Leaps, gaussian, solved

from reverie.conditioning import Cond, Conditions
from reverie.denoiser import Denoiser
from reverie.grids import Karras, Uniform
from reverie.losses import Denoising, LogitNormalTimes, LogNormalTimes, MeanFlow, Shortcut, UniformTimes
from reverie.losses.mean_flow import halfway, velocity
from reverie.nets import MLPConfig
from reverie.parameterizations import Eps, LearnedVariance, V
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Consistency, Heun, Jump
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, Flow, LinearVP, SubVP
from reverie.tensors import host

N = 64
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
DATA, EPS = MEAN + STD * randn(N, 3, seed=1), randn(N, 3, seed=2)
KINDS = named(mean_flow=MeanFlow(taught=True), shortcut=Shortcut(taught=True))
SMOOTH = named(flow=Flow(), cosine=Cosine(), linear_vp=LinearVP(), sub_vp=SubVP(), ve=VE(0.002, 80.0))


def noise(like):
    return EPS[: len(like)]


def tau(schedule, t):
    return schedule.sigma(t) / (schedule.alpha(t) + schedule.sigma(t))


def at_tau(schedule, value):
    return schedule.time(2 * ((1 - value) / value).log())


class Nudged(torch.nn.Module):
    """A denoiser whose x0 is moved by `weight` times sin(x)."""

    def __init__(self, f, weight=0.0):
        super().__init__()
        self.f, self.schedule = f, f.schedule
        self.weight = torch.nn.Parameter(torch.tensor(weight, dtype=DOUBLE))

    def forward(self, x, t, cond=None):
        return Prediction.from_x0(self.f(x, t, cond).x0 + self.weight * x.sin(), x, self.schedule.at(t, like=x))


class Wavy(Stub):
    """A student that reads where its step ends, and keeps what it was told."""

    def __init__(self, schedule):
        super().__init__(schedule, None)
        self.told = []

    def __call__(self, x, t, cond=None):
        self.told.append(cond)
        s = (cond.until if cond is not None and cond.until is not None else host(t)).reshape(-1, 1)
        x0 = torch.sin(0.7 * x) * (0.6 + 0.3 * s) + t.reshape(-1, 1) ** 2
        return Prediction.from_x0(x0, x, self.schedule.at(t, like=x))


def said(f, x, t, s):
    return velocity(f(x, t, Cond(until=s)))


# ------------------------------------------------------------------------------------ closed form


@pytest.mark.parametrize("schedule", **every_schedule)
def test_u_is_the_mean_of_the_velocity_between_the_two_times(schedule):
    f, (nodes, weights) = gaussian(schedule), np.polynomial.legendre.leggauss(40)
    t, s = host([0.9, 0.7, 0.5, 0.2]), host([0.3, 0.6, 0.1, 0.15])
    level = schedule.at(t, like=DATA[:4])
    x, total = level.alpha * DATA[:4] + level.sigma * EPS[:4], torch.zeros(4, 3, dtype=DOUBLE)
    for node, weight in zip(nodes, weights, strict=True):
        middle = at_tau(schedule, tau(schedule, s) + (tau(schedule, t) - tau(schedule, s)) * (node + 1) / 2)
        total += weight / 2 * velocity(f(solved(f, x, t, middle), middle))
    assert close(said(Leaps(f), x, t, s), total, 1e-6)


@pytest.mark.parametrize("loss", **KINDS)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_mean_of_the_flow_has_neither_loss_nor_gradient(schedule, loss):
    loss, f = loss.taught_by(gaussian(schedule)), Nudged(Leaps(gaussian(schedule)))
    value = loss(f, DATA, U, None, noise)
    value.sum().backward()
    assert close(value, torch.zeros(N), 1e-15)
    assert close(f.weight.grad, 0.0, 1e-7)
    for wrong in (Nudged(Leaps(gaussian(schedule)), 0.1), gaussian(schedule), Ends(gaussian(schedule))):
        assert loss(wrong, DATA, U, None, noise).mean() > 1e-4


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_any_number_of_jumps_comes_where_the_flow_comes(schedule, steps):
    f, times = Leaps(gaussian(schedule)), Uniform(steps)(schedule)
    x = schedule.sigma(times[0]) * randn(5, 3, seed=3)
    expected = solved(gaussian(schedule), x, times[0].expand(5), torch.zeros(5, dtype=DOUBLE))
    assert close(generate(f, Jump(), times, x), expected, 1e-9)
    assert not close(generate(f, DDIM(), times, x), expected, 1e-2)


# -------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("schedule", **SMOOTH)
def test_the_target_of_mean_flow_is_what_finite_differences_make_of_its_definition(schedule):
    f, teacher = Wavy(schedule), gaussian(schedule)
    t, s = host([0.9, 0.7, 0.5, 0.2]), host([0.3, 0.6, 0.5, 0.05])
    truth = Prediction.of(DATA[:4], EPS[:4], schedule.at(t, like=DATA[:4]))
    for leading in (truth, teacher(truth.x, t)):
        found, v = MeanFlow.target(f, leading, t, s, Cond(until=s)), leading.eps - leading.x0
        h, here, size = 1e-6, tau(schedule, t), (truth.level.alpha + truth.level.sigma)
        ends = []
        for d in (h, -h):
            moved = at_tau(schedule, here + d)
            level = schedule.at(moved, like=DATA[:4])
            ends.append(said(f, (truth.x / size + d * v) * (level.alpha + level.sigma), moved, s))
        slope = (ends[0] - ends[1]) / (2 * h)
        assert close(found, v - (here - tau(schedule, s))[:, None] * slope, 1e-5)
    with_teacher, apart = teacher(truth.x, t), randn(4, 3, seed=5)
    either = [
        MeanFlow.target(f, with_teacher.with_x0(with_teacher.x0 + d), t, s, Cond(until=s)) for d in (apart, -apart)
    ]
    assert close((either[0] + either[1]) / 2, found, 1e-9)  # so that without a teacher it is right in the mean


@pytest.mark.parametrize("schedule", **SMOOTH)
def test_the_target_of_a_shortcut_is_the_mean_of_two_steps_of_half_the_length(schedule):
    f, t, s = Wavy(schedule), host([0.9, 0.7, 0.5, 0.2]), host([0.3, 0.6, 0.1, 0.05])
    truth = Prediction.of(DATA[:4], EPS[:4], schedule.at(t, like=DATA[:4]))
    found = Shortcut.target(f, truth, t, s, None)
    middle = at_tau(schedule, (tau(schedule, t) + tau(schedule, s)) / 2)
    assert close(halfway(schedule, t, s), middle, 1e-9)
    first = said(f, truth.x, t, middle)
    level = schedule.at(middle, like=DATA[:4])
    y = truth.x / (truth.level.alpha + truth.level.sigma) + (tau(schedule, middle) - tau(schedule, t))[:, None] * first
    second = said(f, y * (level.alpha + level.sigma), middle, s)
    assert close(found, (first + second) / 2, 1e-8)


@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("cls", [MeanFlow, Shortcut])
def test_it_is_the_squared_error_of_u_with_no_gradient_through_the_target(cls, taught):
    schedule = LinearVP()
    loss, f = cls(taught=taught).taught_by(gaussian(schedule)), Nudged(Wavy(schedule), 0.1)
    value = loss(f, DATA, U, Cond(label=torch.arange(N)), noise)
    value.sum().backward()
    t, s = loss.ends(U, schedule, noise, DATA)
    truth = Prediction.of(DATA, EPS, schedule.at(t, like=DATA))
    leading = gaussian(schedule)(truth.x, t) if taught else truth
    if cls is MeanFlow:
        target = MeanFlow.target(f, leading, t, s, Cond(until=s))
    else:
        two = Shortcut.target(f, truth, t, torch.where(s < t, s, t / 2), None)
        target = torch.where((s < t)[:, None], two, velocity(leading))
    assert 0 < int((s < t).sum()) < N
    error = (said(f, truth.x, t, s) - target).detach()
    square = error.square().mean(1)
    below = square + loss.floor if cls is MeanFlow else torch.ones(N, dtype=DOUBLE)
    assert close(value, square / below, 1e-9)
    slope = -(1 + truth.level.alpha / truth.level.sigma) * truth.x.sin()  # of eps - x0 in the weight
    assert close(f.weight.grad, ((2 * error * slope).mean(1) / below).sum(), 1e-9)
    for cond in f.f.told:
        assert cond.until is not None
        assert cond.label is None or torch.equal(cond.label, torch.arange(N))


@pytest.mark.parametrize("cls", [MeanFlow, Shortcut])
def test_steps_of_no_length_are_flow_matching(cls):
    f, far = Stub(Flow(), lambda x, t: 0.4 * x.tanh()), EPS.clone()
    far[:, 0] = far[:, 0].abs() + 0.1  # beyond the share of one half
    value = cls(taught=False)(f, DATA, U, None, lambda like: far)
    plain = Denoising("flow", LogitNormalTimes(-0.4, 1.0))(f, DATA, U, None, lambda like: far)
    assert close(value, plain / (plain + 1e-3) if cls is MeanFlow else plain, 1e-9)


@pytest.mark.parametrize("cls", [MeanFlow, Shortcut])
@pytest.mark.parametrize("schedule", **named(flow=Flow(), cosine=Cosine()))
def test_from_where_there_is_no_signal_all_is_finite(schedule, cls):
    torch.manual_seed(0)
    f = Denoiser(stirred(MLPConfig(width=16, depth=1).build((3,), Conditions(until=True))), schedule, V())
    u, near = (torch.full((4,), v, dtype=DOUBLE) for v in (0.0, 1e-9))
    drawn = -EPS[:4].abs()  # so that all steps have a length
    loss = cls(taught=True, times=UniformTimes()).taught_by(gaussian(schedule))
    at, beside = (loss(f, DATA[:4], v, None, lambda like: drawn) for v in (u, near))
    assert loss.times_at(u, schedule).min() == 1
    assert close(at, beside, 1e-5)
    at.sum().backward()
    assert all(p.grad.isfinite().all() for p in f.parameters() if p.grad is not None)


# ---------------------------------------------------------------------------------------- times


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
@pytest.mark.parametrize(
    "times", **named(logit_normal=LogitNormalTimes(), log_normal=LogNormalTimes(), uniform=UniformTimes())
)
@pytest.mark.parametrize("cls", [MeanFlow, Shortcut])
def test_the_stated_share_has_a_step_of_some_length_and_both_ends_have_the_density(cls, times, share):
    n = 4000
    u = torch.rand(n, dtype=DOUBLE, generator=seeded(1))
    quantiles = ((torch.arange(n, dtype=DOUBLE) + 0.5) / n)[torch.randperm(n, generator=seeded(2))]
    z = torch.special.ndtri(quantiles)[:, None].expand(n, 3)
    loss = cls(times=times, share=share)
    t, s = loss.ends(u, Cosine(), lambda like: z, z)
    assert (s <= t).all()
    assert int((s < t).sum()) == share * n
    own = times(u, Cosine())
    assert torch.equal(t[s == t], own[s == t])
    long = s < t
    other = torch.where(t == own, s, t)[long]
    assert ((t == own) | (s == own)).all()
    k = round(share * n)
    strata = times((torch.arange(k, dtype=DOUBLE) + 0.5) / k, Cosine())
    assert close(other.sort().values, strata.sort().values, 1e-6)
    assert torch.equal(loss.times_at(u, Cosine()), own)


def test_the_ends_are_drawn_apart_from_the_noise_of_the_data():
    draws, f = noise_from(seeded(1)), Wavy(Cosine())
    seen = []

    def kept(like):
        seen.append(draws(like))
        return seen[-1]

    loss = Shortcut(taught=False, share=1.0)
    loss(f, DATA, U, None, kept)
    other = loss.times(torch.special.ndtr(seen[1][:, 0]), Cosine())
    assert close(f.told[-1].until, torch.minimum(other, loss.times(U, Cosine())), 1e-9)


# ------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("schedule", **every_schedule)
def test_of_a_model_that_reads_no_end_jumps_are_steps_of_ddim(schedule):
    times = Uniform(4)(schedule)
    x = schedule.sigma(times[0]) * randn(5, 3, seed=3)
    assert close(generate(gaussian(schedule), Jump(), times, x), generate(gaussian(schedule), DDIM(), times, x), 1e-12)


@pytest.mark.parametrize("until", [True, False])
def test_a_network_is_told_the_end_of_each_step_if_it_was_built_for_it(until):
    torch.manual_seed(0)
    net = stirred(MLPConfig(width=16, depth=1).build((3,), Conditions(until=until)))
    f, times, x = Denoiser(net, Cosine(), V()), Uniform(3, start=0.9)(Cosine()), randn(5, 3, seed=3)
    assert close(generate(f, Jump(), times, x), generate(f, DDIM(), times, x), 1e-6) is not until
    q = f(x, times[0], Cond(until=times[1].expand(5)))
    b = Cosine().at(times[1], like=x)
    assert close(generate(f, Jump(), times[:2], x), b.alpha * q.x0 + b.sigma * q.eps, 1e-12)


@pytest.mark.parametrize("loss", **KINDS)
def test_only_jumps_tell_where_they_end(loss):
    for grid in (Uniform(1), Uniform(7), Karras(4)):
        loss.check_sampling(Jump(), grid, Cosine())
    for sampler in (DDIM(), Heun(), Consistency()):
        with pytest.raises(ValueError, match=rf"which {sampler.kind} does not tell; use sampler\.kind=jump"):
            loss.check_sampling(sampler, Uniform(1), Cosine())


@pytest.mark.parametrize("loss", **KINDS)
def test_networks_that_put_out_a_variance_are_refused(loss):
    loss.check(LinearVP(), V())
    with pytest.raises(ValueError, match=rf"puts out a variance, which loss\.kind={loss.kind}"):
        loss.check(LinearVP(), LearnedVariance(Eps()))


@pytest.mark.parametrize("cls", [MeanFlow, Shortcut])
def test_shares_and_floors_out_of_their_range_are_refused(cls):
    for share in (0.0, -0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"loss\.share is that of examples"):
            cls(share=share)
    for floor in (0.0, float("nan")):
        with pytest.raises(ValueError, match=r"loss\.floor must be greater than 0"):
            MeanFlow(floor=floor)
