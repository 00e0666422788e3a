from itertools import pairwise

import pytest
import torch
from helpers import DOUBLE, close, named, randn

from reverie.conditioning import Cond
from reverie.denoiser import Denoiser, Remembering
from reverie.guidance import ClassifierFree
from reverie.losses import Denoising, Hybrid, Resampled, SelfConditioned, Uncertain, VariationalBound
from reverie.parameterizations import Eps, LearnedVariance, V
from reverie.samplers import DDIM
from reverie.sampling import generate
from reverie.schedules import Cosine, LinearVP

N = 64
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
X0, EPS = randn(N, 3, seed=1), randn(N, 3, seed=2)
COND = Cond(label=torch.arange(N) % 2)


class Net(torch.nn.Module):
    """Keeps every input it was given."""

    def __init__(self, outputs=1):
        super().__init__()
        self.map = torch.nn.Parameter(randn(6, 3 * outputs, seed=3) / 3)
        self.seen = []

    def forward(self, x, label, cond):
        self.seen.append((x.detach(), cond))
        shift = 0 if cond is None or cond.label is None else cond.label[:, None] / 3
        return torch.tanh(x @ self.map + shift)


def denoiser(schedule=None, parameterization=None):
    parameterization = parameterization or V()
    net = Net(parameterization.outputs)
    return Denoiser(net, schedule or Cosine(), parameterization, self_conditioned=True)


def noise(seed=4):
    """The noise, then, for the coin, the N quantiles of the normal law in the first number, in some order."""
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    coins = randn(N, 3, seed=5)
    coins[order, 0] = torch.special.ndtri((torch.arange(N, dtype=DOUBLE) + 0.5) / N)
    draws = iter([EPS, coins])
    return lambda like: next(draws)


@pytest.mark.parametrize("probability", [0.25, 0.5, 1.0])
def test_the_stated_share_is_told_what_the_network_says_without_an_estimate(probability):
    f, loss = denoiser(), SelfConditioned(Denoising("v"), probability)
    value = loss(f, X0, U, COND, noise())
    (first, told_first), (second, told_second) = f.net.seen
    assert told_first.estimate is None
    assert torch.equal(told_second.label, COND.label)
    t = loss.times_at(U, f.schedule)
    x = f.schedule.alpha(t)[:, None] * X0 + f.schedule.sigma(t)[:, None] * EPS
    assert close(first, torch.cat([x, 0 * x], 1), 1e-12)
    assert close(second[:, :3], x, 1e-12)
    guess = f(x, t, COND).x0.detach()
    told = (second[:, 3:] != 0).any(1)
    assert int(told.sum()) == probability * N
    assert close(second[told, 3:], guess[told], 1e-12)
    again = f(x, t, Cond(label=COND.label, estimate=second[:, 3:]))
    v = f.schedule.alpha(t)[:, None] * EPS - f.schedule.sigma(t)[:, None] * X0
    assert close(value, (again.v - v).square().mean(1), 1e-12)


def test_no_gradient_flows_through_the_estimate():
    f, loss = denoiser(), SelfConditioned(Denoising("v"))
    (got,) = torch.autograd.grad(loss(f, X0, U, COND, noise()).sum(), f.net.map)
    estimate = f.net.seen[1][0][:, 3:]
    given = Cond(label=COND.label, estimate=estimate)
    (expected,) = torch.autograd.grad(Denoising("v")(f, X0, U, given, lambda like: EPS).sum(), f.net.map)
    assert close(got, expected, 1e-12)


def test_a_loss_without_a_condition_and_every_loss_inside_is_told_as_well():
    inside = {
        Denoising("x0"): V(),
        VariationalBound(8, bins=0): LearnedVariance(V()),
        Hybrid("v", total=8, bins=0): LearnedVariance(V()),
        Uncertain(Denoising("v")): V(),
        Resampled(Denoising("v"), 4, 2): V(),
    }
    for loss, parameterization in inside.items():
        f = denoiser(parameterization=parameterization)
        outer = SelfConditioned(loss)
        outer.check(f.schedule, parameterization)
        value = outer(f, X0, U, None, noise(), outer.memory())
        assert value.shape == (N,)
        assert len(f.net.seen) == 2
        assert 0.4 * N < int((f.net.seen[1][0][:, 3:] != 0).any(1).sum()) < 0.6 * N
        assert outer.self_conditions
        assert Resampled(outer).self_conditions
        assert not loss.self_conditions


def test_what_the_loss_is_asked_is_what_the_loss_inside_is_asked():
    loss = SelfConditioned(VariationalBound(8))
    assert loss.quantised
    assert loss.positive
    assert torch.equal(loss.times_at(U, Cosine()), VariationalBound(8).times_at(U, Cosine()))
    assert SelfConditioned(Denoising()).memory() is None
    SelfConditioned(Denoising()).observe(None, U, U)


@pytest.mark.parametrize("inside", **named(direct=SelfConditioned(), resampled=Resampled(SelfConditioned())))
def test_there_is_one_estimate_to_be_told(inside):
    with pytest.raises(ValueError, match=r"one estimate; use loss\.loss\.kind=denoising"):
        SelfConditioned(inside).check(LinearVP(), Eps())


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.1, float("nan")])
def test_a_probability_is_one(probability):
    with pytest.raises(ValueError, match="probability"):
        SelfConditioned(Denoising(), probability)


# ------------------------------------------------------------------------------------- sampling


def test_each_step_of_a_trajectory_is_told_what_the_one_before_said():
    f, times = denoiser(), torch.tensor([1.0, 0.6, 0.3, 0.0], dtype=DOUBLE)
    for _ in range(2):  # a second trajectory begins without an estimate again
        f.net.seen.clear()
        got = generate(f, DDIM(), times, X0[:5])
        x, estimate, inputs = X0[:5], torch.zeros(5, 3, dtype=DOUBLE), [v[0] for v in f.net.seen]
        assert len(inputs) == 3
        for i, (t, s) in enumerate(pairwise(times)):
            assert close(inputs[i], torch.cat([x, estimate], 1), 1e-12)
            with torch.no_grad():
                q = f(x, t, Cond(estimate=estimate))
            estimate = q.x0
            x = f.schedule.alpha(s) * q.x0 + f.schedule.sigma(s) * q.eps
        assert close(got, x, 1e-12)


def test_guided_and_self_conditioned():
    f, times = denoiser(), torch.tensor([1.0, 0.5, 0.0], dtype=DOUBLE)
    cond = Cond(label=torch.tensor([0, 1, 1, 0, 1]))
    got = generate(ClassifierFree(f, 3.0), DDIM(), times, X0[:5], cond)
    first, second = (v[0] for v in f.net.seen)
    assert first.shape == second.shape == (10, 6)
    # both halves are told the same: what guidance made of the step before
    assert torch.equal(second[:5, 3:], second[5:, 3:])
    g = Remembering(ClassifierFree(f, 3.0))
    with torch.no_grad():
        x = DDIM().step(g, X0[:5], times[0], times[1], cond, torch.randn_like, None)[0]
        assert close(g.estimate, second[:5, 3:], 1e-12)
        x = DDIM().step(g, x, times[1], times[2], cond, torch.randn_like, None)[0]
    assert close(got, x, 1e-12)
