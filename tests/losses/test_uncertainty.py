import math

import pytest
import torch
from helpers import DOUBLE, Stub, close, named, randn

from reverie.losses import (
    Denoising,
    Hybrid,
    KnotTimes,
    Resampled,
    SelfConditioned,
    SlicedScoreMatching,
    Uncertain,
    UniformTimes,
    VariationalBound,
)
from reverie.losses.uncertainty import Uncertainty
from reverie.parameterizations import X0 as X0Output
from reverie.parameterizations import Eps, LearnedVariance
from reverie.schedules import VE, Flow, LinearVP, Table

LEVELS = 5
CHAIN = Table.linear(LEVELS, 0.05, 0.6)
U = (torch.arange(LEVELS, dtype=DOUBLE).repeat_interleave(2) + 0.5) / LEVELS
"""Two examples at each of the five knots."""
X0, EPS = randn(10, 3, seed=1), randn(10, 3, seed=2)
LOSS = Denoising("x0", KnotTimes())


def wrong(scale=1.0):
    """A denoiser whose errors at the five levels differ by orders of magnitude."""
    return Stub(CHAIN, lambda x, t: X0 + scale * (10 ** (2 * t - 1))[:, None] * EPS.cos())


def value(loss, f, memory):
    return loss(f, X0, U, None, lambda like: EPS, memory)


def stirred(channels=128):
    memory = Uncertain(LOSS, channels).memory().double()
    with torch.no_grad():
        memory.weight.copy_(randn(channels, seed=3))
    return memory


def test_it_begins_as_the_loss_inside_and_without_memory_it_is_that():
    plain = value(LOSS, wrong(), None)
    assert torch.equal(value(Uncertain(LOSS), wrong(), None), plain)
    assert torch.equal(value(Uncertain(LOSS), wrong(), Uncertain(LOSS).memory()), plain)
    assert torch.equal(Uncertain(LOSS).times_at(U, CHAIN), LOSS.times_at(U, CHAIN))


def test_the_value_and_both_gradients_are_as_written():
    memory, scale = stirred(), torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)
    c = memory(CHAIN.log_snr(LOSS.times_at(U, CHAIN)))
    plain = value(LOSS, wrong(scale), None)
    balanced = value(Uncertain(LOSS), wrong(scale), memory)
    assert close(balanced, plain / c.exp() + c, 1e-12)
    assert c.std() > 0.1
    # d/dc = 1 - L exp(-c), d/d theta = exp(-c) dL / d theta
    by_c = torch.autograd.grad(balanced.sum(), memory.weight, retain_graph=True)[0]
    expected = torch.autograd.grad(c, memory.weight, 1 - (plain * (-c).exp()).detach())[0]
    assert close(by_c, expected, 1e-12)
    by_scale = torch.autograd.grad(balanced.sum(), scale)[0]
    slope = torch.autograd.grad(plain, scale, (-c).exp().detach())[0]
    assert close(by_scale / slope, 1.0, 1e-12)


def test_at_its_best_every_level_weighs_by_the_mean_of_its_loss():
    loss, f = Uncertain(LOSS), wrong()
    memory = loss.memory().double()
    optimizer = torch.optim.LBFGS([memory.weight], max_iter=500, tolerance_grad=1e-11, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        total = value(loss, f, memory).mean()
        total.backward()
        return total

    optimizer.step(closure)
    plain = value(LOSS, f, None)
    with torch.no_grad():
        c = memory(CHAIN.log_snr(LOSS.times_at(U, CHAIN)))
    mean = plain.reshape(LEVELS, 2).mean(1)
    assert mean.max() / mean.min() > 1000
    assert close(c.exp().reshape(LEVELS, 2)[:, 0] / mean, torch.ones(LEVELS), 1e-4)
    assert close((plain / c.exp()).reshape(LEVELS, 2).mean(1), torch.ones(LEVELS), 1e-4)
    # and the value there is 1 + the mean logarithm of the levels' losses: the least there is
    assert close(closure().detach(), 1 + mean.log().mean(), 1e-8)


def test_c_is_a_function_of_the_noise_level_whatever_the_schedule():
    memory, log_snr = stirred(), torch.tensor([-6.0, 0.0, 3.0], dtype=DOUBLE)
    for schedule in (Flow(), LinearVP(), VE()):
        assert close(memory(schedule.log_snr(schedule.time(log_snr))), memory(log_snr), 1e-6)
    ends = memory(torch.tensor([-torch.inf, torch.inf, -1e9, 80.0], dtype=DOUBLE))
    assert ends.isfinite().all()
    assert close(ends[1], ends[3])
    assert close(ends[0], ends[2])


def test_its_features_have_unit_size_and_are_the_same_in_every_run():
    before = torch.get_rng_state()
    a, b = Uncertainty(128), Uncertainty(128)
    assert torch.equal(torch.get_rng_state(), before)
    for (name, one), other in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert not torch.equal(a.frequency[:64], Uncertainty(64).frequency)
    with torch.no_grad():
        a.weight.normal_(generator=torch.Generator().manual_seed(0))
    log_snr = torch.linspace(-20, 20, 400, dtype=DOUBLE)
    assert 0.5 < float(a(log_snr).square().mean().detach()) < 2
    names = {name for name, _ in a.named_parameters()}
    assert names == {"weight"}


def test_float32_losses_stay_float32():
    f = Stub(CHAIN, lambda x, t: 0 * x)
    memory = Uncertain(LOSS).memory()
    out = Uncertain(LOSS)(f, X0.float(), U, None, lambda like: EPS.float(), memory)
    assert out.dtype == torch.float32
    out.mean().backward()
    assert memory.weight.grad.isfinite().all()


@pytest.mark.parametrize(
    "inside",
    **named(
        sliced=SlicedScoreMatching(),
        uncertain=Uncertain(),
        resampled=Resampled(),
        hidden=SelfConditioned(Resampled()),
        twice=SelfConditioned(Uncertain()),
        densities=VariationalBound(20, bins=0),
        hybrid_densities=Hybrid(total=20, bins=0),
    ),
)
def test_losses_that_cannot_be_balanced_are_refused(inside):
    with pytest.raises(ValueError, match=r"positive loss.*Use loss\.loss\.kind=denoising"):
        Uncertain(inside).check(LinearVP(), LearnedVariance(Eps()) if "Hybrid" in repr(inside) else Eps())


@pytest.mark.parametrize(
    "inside",
    **named(denoising=Denoising(), masses=VariationalBound(20), told=SelfConditioned(Denoising("v", UniformTimes()))),
)
def test_losses_that_can_be_are_not(inside):
    Uncertain(inside).check(LinearVP(), Eps())
    Resampled(Uncertain(inside)).check(LinearVP(), Eps())
    assert not Uncertain(inside).positive


def test_what_the_loss_inside_refuses_is_refused():
    with pytest.raises(ValueError, match=r"total is 7, and the chain has 5 steps"):
        Uncertain(Denoising("eps", KnotTimes(7))).check(CHAIN, Eps())
    # and its settings are named by where they stand
    with pytest.raises(ValueError, match=r"; use loss\.loss\.notation=x0 or loss\.loss\.weight\.kind=min_snr"):
        Uncertain(Denoising("score")).check(Flow(), X0Output())
    with pytest.raises(ValueError, match=r"; use loss\.loss\.loss\.notation=x0"):
        Resampled(Uncertain(Denoising("score"))).check(Flow(), X0Output())
    with pytest.raises(ValueError, match="channels >= 1"):
        Uncertain(LOSS, 0)


def test_c_is_linear_in_fourier_features_of_a_quarter_of_log_sigma():
    memory = Uncertainty(6).double()
    with torch.no_grad():
        memory.weight.copy_(torch.linspace(-1, 2, 6))
    schedule, t = LinearVP(), torch.tensor([0.1, 0.4, 0.9], dtype=DOUBLE)
    c_noise = torch.log(schedule.sigma(t) / schedule.alpha(t)) / 4  # Karras et al. (2022), table 1
    angle = 2 * math.pi * (c_noise[:, None] * memory.frequency + memory.phase)
    expected = (math.sqrt(2) * angle.cos() * memory.weight).sum(1) / math.sqrt(6)
    assert close(memory(schedule.log_snr(t)), expected, 1e-12)


def test_c_stays_in_float32_under_autocast():
    memory = Uncertainty(16)
    with torch.no_grad():
        memory.weight.fill_(1.0)
    log_snr = torch.linspace(-8, 8, 20, dtype=DOUBLE)
    with torch.autocast("cpu", torch.bfloat16):
        found = memory(log_snr)
    assert torch.equal(found, memory(log_snr))
