import itertools
import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, Stub, close, defaults, every_schedule, labelled, mixture, randn

from reverie.conditioning import Cond
from reverie.denoiser import Clipped, Denoiser, FixedRows, Remembering, Rescheduled, self_conditioned
from reverie.guidance import ClassifierFree
from reverie.parameterizations import EDM, Eps, LearnedVariance, Parameterization, V
from reverie.samplers import DDIM
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, Flow, LinearVP, Table
from reverie.tensors import host
from reverie.time_labels import Index, LogSNR


class Toy(torch.nn.Module):
    """Keeps what it was called with; puts out tanh of a fixed linear map, plus the label."""

    def __init__(self, dtype=DOUBLE):
        super().__init__()
        self.map = torch.nn.Parameter(randn(3, 3, seed=8).to(dtype))

    def forward(self, x, label, cond):
        self.seen = x, label, cond
        return torch.tanh(x @ self.map) + 0.01 * label.reshape((-1,) + (1,) * (x.ndim - 1))


X = randn(4, 5, 3, seed=1)
TIMES = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=DOUBLE)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_denoiser_scales_labels_calls_and_decodes(schedule):
    for parameterization in defaults(Parameterization).values():
        if parameterization.outputs > 1 or (parameterization.divides_by_alpha and schedule.ends_in_noise()):
            continue
        f, cond = Denoiser(Toy(), schedule, parameterization, LogSNR(0.1)), Cond(label=torch.arange(4))
        q = f(X, TIMES, cond)
        level = schedule.at(TIMES, like=X)
        x, label, given = f.net.seen
        assert close(x, parameterization.scale(level) * X)
        assert close(label, 0.1 * schedule.log_snr(TIMES).clamp(-20, 20), 1e-9)
        assert given is cond
        again = parameterization.decode(f.net(x, label, cond), X, level, schedule)
        assert close(q.x0, again.x0)
        assert close(q.eps, again.eps)
        for i in range(4):
            one = f(X[i : i + 1], TIMES[i])
            assert f.net.seen[1].shape == (1,)
            # x0 and eps blow up an error by sigma / alpha or its inverse
            assert close(level.alpha[i] * one.x0[0], level.alpha[i] * q.x0[i], 1e-9)
            assert close(level.sigma[i] * one.eps[0], level.sigma[i] * q.eps[i], 1e-9)


def test_the_network_runs_in_its_own_dtype_and_x_keeps_its():
    f = Denoiser(Toy(torch.float32), Cosine(), V())
    q = f(X, TIMES)
    assert f.net.seen[0].dtype == f.net.seen[1].dtype == torch.float32
    assert q.x.dtype == q.x0.dtype == q.eps.dtype == DOUBLE
    assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, X, 1e-13)
    assert f(X.float(), TIMES).x0.dtype == torch.float32
    assert isinstance(f.label, LogSNR)
    no_weights = Denoiser(torch.nn.Identity(), Cosine(), V())
    no_weights.net.forward = lambda x, label, cond: x
    assert no_weights(X, TIMES).x0.dtype == DOUBLE


@pytest.mark.parametrize("t", [0.3, 0.7])
def test_a_time_for_each_example_is_not_a_time_for_each_column(t):
    f = Denoiser(Toy(), LinearVP(), Eps(), Index(1000))
    x, times = randn(3, 3), torch.tensor([t, 0.5, 0.1])
    q = f(x, times)
    for i in range(3):
        assert close(q.x0[i], f(x[i : i + 1], times[i]).x0[0], 1e-11)
    assert f(x, torch.tensor([t])).x0.shape == (3, 3)


def test_times_for_another_batch_are_refused():
    with pytest.raises(ValueError, match="one number an example"):
        Denoiser(Toy(), Cosine(), V())(X, TIMES[:2])


def test_eps_on_a_schedule_that_ends_in_noise_is_refused():
    with pytest.raises(ValueError, match="Flow has alpha"):
        Denoiser(Toy(), Flow(), Eps())


# ------------------------------------------------------------------------------- rescheduled


@pytest.mark.parametrize(("own", "new"), list(itertools.permutations(SCHEDULES, 2)))
def test_ddim_gives_the_same_sample_under_another_schedule(own, new):
    own, new = SCHEDULES[own], SCHEDULES[new]
    f = mixture(own)
    g = Rescheduled(f, new)
    low = max(float(s.log_snr(host(1.0))) for s in (own, new))
    log_snr = torch.linspace(max(low, -7.0) + 1e-6, 9.0, 12, dtype=DOUBLE)
    zero = torch.zeros(1, dtype=DOUBLE)
    times_own, times_new = (torch.cat([s.time(log_snr), zero]) for s in (own, new))
    z = randn(6, 2, seed=5)
    x_own, x_new = (s.at(times[0], z).sigma * z for s, times in ((own, times_own), (new, times_new)))
    assert close(generate(f, DDIM(), times_own, x_own), generate(g, DDIM(), times_new, x_new), 1e-10)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_rescheduled_is_the_exact_denoiser_of_the_other_process(schedule):
    g, exact = Rescheduled(labelled(VE(0.0001, 1e4)), schedule), labelled(schedule)
    x, cond = randn(4, 2), Cond(label=torch.tensor([0, 1, 1, 0]))
    for t in (TIMES, *TIMES):
        q, p = g(x, t, cond), exact(x, t, cond)
        assert close(q.x0, p.x0, 1e-8)
        assert close(q.eps, p.eps, 1e-8)
        assert g.schedule is schedule
        assert q.x is x


def test_levels_beyond_the_range_are_read_at_the_noisiest():
    own, new = VE(0.002, 5.0), VE(0.002, 80.0)
    seen = []
    f = Stub(own, lambda x, t: seen.append((x, t)) or torch.zeros_like(x) + 0.3)
    x = 40 * randn(3, 2)
    q = Rescheduled(f, new)(x, host(0.97))
    assert float(seen[0][1]) == 1
    level = new.at(host(0.97), x)
    # the input has the power that the network knows at its own t = 1, for data of unit variance
    assert close(seen[0][0], x * math.sqrt((1 + 5.0**2) / (1 + float(level.sigma) ** 2)), 1e-10)
    assert close(q.x0, torch.full((3, 2), 0.3).double(), 1e-7)
    assert close(level.alpha * q.x0 + level.sigma * q.eps, x, 1e-12)
    mixed = Rescheduled(f, new)(x, torch.tensor([0.2, 0.97, 1.0]))
    assert close(mixed.level.alpha * mixed.x0 + mixed.level.sigma * mixed.eps, x, 1e-12)


def test_rescheduled_from_pure_noise():
    q = Rescheduled(mixture(LinearVP()), Flow())(randn(3, 2), host(1.0))
    assert q.x0.isfinite().all()
    assert close(q.eps, randn(3, 2))
    assert Rescheduled(Rescheduled(mixture(Table()), VE()), Cosine())(randn(3, 2), TIMES[:3]).x0.isfinite().all()


# ----------------------------------------------------------------------------------- clipped


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 0.5)])
def test_clipped_holds_x0_and_eps_follows(low, high):
    f = Stub(LinearVP(), lambda x, t: 2 * x)
    x = randn(4, 5)
    q = Clipped(f, low, high)(x, TIMES)
    assert close(q.x0, (2 * x).clamp(low, high))
    assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, x)
    assert Clipped(f).schedule is f.schedule
    assert (Clipped(f).low, Clipped(f).high) == (-1, 1)


def test_what_needs_no_clipping_is_left_alone():
    f = Stub(Cosine(), lambda x, t: x.tanh() / 2)
    x = randn(4, 5)
    assert close(Clipped(f)(x, TIMES).eps, f(x, TIMES).eps)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (1.0, -1.0)])
def test_an_empty_range_is_refused(low, high):
    with pytest.raises(ValueError, match="low < high"):
        Clipped(mixture(VE()), low, high)


def test_wrappers_compose_and_pass_conditions_and_variance_on():
    f = labelled(LinearVP())
    cond = Cond(label=torch.tensor([0, 1, 0, 1]))
    both = Clipped(Rescheduled(f, Flow()), -0.2, 0.2)
    x = randn(4, 2)
    assert close(both(x, TIMES, cond).x0, labelled(Flow())(x, TIMES, cond).x0.clamp(-0.2, 0.2), 1e-9)

    class WithVariance(Stub):
        def __call__(self, x, t, cond=None):
            return super().__call__(x, t, cond).with_var(torch.full_like(x, 0.3))

    g = WithVariance(LinearVP(), lambda x, t: x)
    assert Clipped(g)(x, TIMES).var.eq(0.3).all()
    assert Rescheduled(g, Flow())(x, TIMES).var.eq(0.3).all()
    assert Rescheduled(g, Flow())(x, host(1.0)).var.eq(0.3).all()


# ---------------------------------------------------------------- a variance, and an estimate of its own


class Wide(torch.nn.Module):
    """From `inputs` to `outputs` times the numbers of an example."""

    def __init__(self, inputs=1, outputs=1):
        super().__init__()
        self.map = torch.nn.Parameter(randn(3 * inputs, 3 * outputs, seed=8) / 3)
        self.seen = []

    def forward(self, x, label, cond):
        self.seen.append((x, cond))
        shift = 0 if cond is None or cond.label is None else cond.label[:, None] / 3
        return torch.tanh(x @ self.map + shift) + 0.01 * label[:, None]


FLAT = randn(4, 3, seed=1)
COND = Cond(label=torch.tensor([0, 1, 1, 0]))


@pytest.mark.parametrize("t", [TIMES, TIMES[2]], ids=["by_example", "scalar"])
def test_a_denoiser_reads_a_learned_variance(t):
    f = Denoiser(Wide(outputs=2), LinearVP(), LearnedVariance(Eps()))
    q = f(FLAT, t)
    out = f.net(FLAT, f.label(q.level).flatten().expand(4), None)
    assert close(q.eps.detach(), out[:, :3].detach())
    assert close(q.var.detach(), (out[:, 3:].detach() + 1) / 2)
    for g in (Clipped(f), Rescheduled(f, Flow()), FixedRows(f, 3), Remembering(f)):
        assert g(FLAT, t).var.shape == FLAT.shape
    assert close(FixedRows(f, 3)(FLAT, t).var.detach(), q.var.detach(), 1e-12)


def test_what_was_last_thought_comes_beside_the_scaled_x():
    f = Denoiser(Wide(2), VE(), EDM(), self_conditioned=True)
    for given in (None, COND):
        f(FLAT, TIMES, given)
        x, cond = f.net.seen[-1]
        scaled = EDM().scale(VE().at(TIMES, FLAT)) * FLAT
        assert close(x, torch.cat([scaled, 0 * FLAT], 1))
        assert cond is given
    estimate = randn(4, 3, seed=2)
    f(FLAT, TIMES, Cond(estimate=estimate))
    assert close(f.net.seen[-1][0], torch.cat([scaled, estimate], 1))
    images = torch.nn.Identity()
    images.forward = lambda x, label, cond: x[:, :2]
    g = Denoiser(images, Flow(), V(), self_conditioned=True)
    x = randn(4, 2, 5, 5)
    assert close(g(x, TIMES, Cond(estimate=x + 1)).v, x, 1e-12)


def test_who_wants_to_be_told_says_so_through_every_wrapper():
    plain, told = (Denoiser(Wide(2), LinearVP(), Eps(), self_conditioned=flag) for flag in (False, True))
    assert not self_conditioned(mixture(VE()))
    for f, expected in ((plain, False), (told, True)):
        for g in (f, Clipped(f), FixedRows(f, 2), Rescheduled(f, Flow()), ClassifierFree(f, 2.0), Remembering(f)):
            assert self_conditioned(g) == expected
        assert self_conditioned(Clipped(ClassifierFree(Rescheduled(f, Flow()), 2.0))) == expected


def test_remembering_tells_what_was_said_before_and_a_new_one_begins_anew():
    f = Denoiser(Wide(2), LinearVP(), Eps(), self_conditioned=True)
    for _ in range(2):
        g, estimate = Remembering(f), torch.zeros_like(FLAT)
        assert g.estimate is None
        assert g.schedule is f.schedule
        for t in (0.9, 0.5, 0.2):
            q = g(FLAT, host(t), COND)
            assert close(f.net.seen[-1][0][:, 3:].detach(), estimate.detach())
            assert torch.equal(f.net.seen[-1][1].label, COND.label)
            assert torch.equal(q.x0, f(FLAT, host(t), Cond(label=COND.label, estimate=estimate)).x0)
            estimate = q.x0
        assert torch.equal(g.estimate, estimate)
    assert COND.estimate is None


def test_an_estimate_goes_through_every_wrapper():
    f = Denoiser(Wide(2), LinearVP(), Eps(), self_conditioned=True)
    estimate = randn(4, 3, seed=2)
    cond = Cond(label=COND.label, estimate=estimate)
    plain = f(FLAT, TIMES, cond)
    assert close(Clipped(f, -9, 9)(FLAT, TIMES, cond).x0.detach(), plain.x0.detach().clamp(-9, 9))
    assert close(FixedRows(f, 3)(FLAT, TIMES, cond).x0.detach(), plain.x0.detach(), 1e-12)
    other = Rescheduled(f, Flow())
    level, own = Flow().at(TIMES, FLAT), LinearVP().time(Flow().log_snr(TIMES))
    x = FLAT / (level.alpha**2 + level.sigma**2).sqrt()
    assert close(other(FLAT, TIMES, cond).x0.detach(), f(x, own, cond).x0.detach(), 1e-9)
    unconditional = f(FLAT, TIMES, Cond(estimate=estimate))

    class Dropping(Wide):
        def forward(self, x, label, cond):
            shown = cond if cond is None or cond.drop is None else Cond(label=torch.where(cond.drop, 0, cond.label))
            return super().forward(x, label, shown)

    g = Denoiser(Dropping(2), LinearVP(), Eps(), self_conditioned=True)
    guided = ClassifierFree(g, 3.0)(FLAT, TIMES, cond)
    assert close(guided.x0.detach(), (unconditional.x0 + 3 * (plain.x0 - unconditional.x0)).detach(), 1e-9)
