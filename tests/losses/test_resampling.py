import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from helpers import DOUBLE, Stub, close, named, randn, seeded

from reverie.denoiser import Denoiser
from reverie.losses import (
    Denoising,
    KnotTimes,
    Loss,
    Resampled,
    SelfConditioned,
    Uncertain,
    UniformTimes,
    VariationalBound,
)
from reverie.losses.resampling import History
from reverie.parameterizations import Eps, LearnedVariance, V
from reverie.schedules import Cosine, LinearVP, Table


@dataclass(frozen=True)
class Spiky(Loss):
    """A loss of u alone: a smooth part in each of `parts` shares, of very uneven height."""

    parts: int = 7
    seen: list = field(default_factory=list)

    def times_at(self, u, schedule):
        return 1 - u

    def height(self, k):
        return 10.0 ** ((k * 5) % self.parts - 3)

    def __call__(self, f, x0, u, cond=None, noise=torch.randn_like, memory=None):
        self.seen.append(u)
        return self.height((u * self.parts).floor()) * (1 + (u * self.parts) % 1)

    @property
    def mean(self):
        return sum(1.5 * self.height(k) for k in range(self.parts)) / self.parts

    @property
    def square(self):
        return sum(7 / 3 * self.height(k) ** 2 for k in range(self.parts)) / self.parts


def filled(loss, histories):
    """A memory that holds these losses, (K, history), as if observed."""
    memory = loss.memory()
    memory.losses.copy_(histories)
    memory.count.fill_(histories.shape[1])
    return memory


def uneven(levels=7, history=3):
    return 10 ** randn(levels, history, seed=5)


def evaluate(loss, u, memory):
    return loss(None, torch.zeros(len(u), 1), u, memory=memory)


def nodes_within(above, n=4):
    """Gauss-Legendre nodes in each of the intervals that end at `above`, and their weights for the mean over [0, 1]."""
    z, w = np.polynomial.legendre.leggauss(n)
    z, w = torch.from_numpy((z + 1) / 2), torch.from_numpy(w / 2)
    below = torch.cat([above.new_zeros(1), above[:-1]])
    width = above - below
    return (below[:, None] + width[:, None] * z).flatten(), (width[:, None] * w).flatten()


# -------------------------------------------------------------------------------- the distribution


@pytest.mark.parametrize("uniform", [0.001, 0.3, 1.0])
def test_the_probabilities_are_those_of_improved_ddpm(uniform):
    histories = uneven()
    root = np.sqrt((histories.numpy() ** 2).mean(1))
    expected = (1 - uniform) * root / root.sum() + uniform / 7
    got = filled(Resampled(Spiky(), 7, 3, uniform), histories).probabilities(uniform)
    assert close(got, torch.from_numpy(expected), 1e-14)
    assert close(got.sum(), 1.0, 1e-14)
    assert (got >= uniform / 7 * (1 - 1e-12)).all()


def test_until_every_share_has_its_history_all_are_as_likely():
    loss = Resampled(Spiky(), 4, 2)
    memory = loss.memory()
    for k in (0, 1, 2, 3, 0, 1, 2):
        assert close(memory.probabilities(0.1), torch.full((4,), 0.25), 1e-15)
        memory.add(torch.tensor([k]), torch.tensor([10.0**k]))
    memory.add(torch.tensor([3]), torch.tensor([1000.0]))
    assert memory.probabilities(0.1)[3] > 0.8
    u = torch.rand(50, generator=seeded(1), dtype=DOUBLE)
    fresh = loss.memory()
    moved, weight = loss.moved(u, fresh)
    assert close(moved, u, 1e-14)
    assert close(weight, torch.ones(50), 1e-14)
    assert close(evaluate(loss, u, fresh), evaluate(loss, u, None), 1e-11)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0])
def test_losses_that_make_no_distribution_leave_it_equal(bad):
    memory = filled(Resampled(Spiky(), 7, 3), torch.full((7, 3), bad))
    assert close(memory.probabilities(0.001), torch.full((7,), 1 / 7, dtype=DOUBLE), 1e-15)


@pytest.mark.parametrize("uniform", [0.001, 0.5])
def test_the_mean_of_the_weighted_loss_is_the_mean_of_the_loss(uniform):
    loss = Resampled(Spiky(), 7, 3, uniform)
    memory = filled(loss, uneven())
    u, w = nodes_within(memory.probabilities(uniform).cumsum(0))
    assert float(w @ evaluate(loss, u, memory)) == pytest.approx(loss.loss.mean, rel=1e-12)
    # also where the shares are not those of the loss: cut at the ends of both
    for levels in (1, 3, 14):
        other = Resampled(Spiky(), levels, 3, uniform)
        memory = filled(other, uneven(levels))
        p = memory.probabilities(uniform)
        inside = (torch.arange(1, 8, dtype=DOUBLE) / 7 * levels - torch.arange(levels)[:, None]).clamp(0, 1)
        cuts = (p.cumsum(0) - p)[:, None] + p[:, None] * inside
        cuts = torch.cat([cuts.flatten(), p.cumsum(0)]).unique()
        u, w = nodes_within(cuts[cuts > 1e-12])
        assert float(w @ evaluate(other, u, memory)) == pytest.approx(loss.loss.mean, rel=1e-9)


def test_the_variance_falls_to_that_of_the_best_distribution():
    # p ~ root mean square is the best there is for these shares: the second moment is then the square of its mean.
    loss = Resampled(Spiky(), 7, 400)
    memory = loss.memory()
    u = torch.rand(7 * 2000, generator=seeded(2), dtype=DOUBLE)
    loss.observe(memory, u, evaluate(loss.loss, u, None))
    assert (memory.count == 400).all()
    v, w = nodes_within(memory.probabilities(loss.uniform).cumsum(0))
    square = float(w @ evaluate(loss, v, memory) ** 2)
    best = sum(math.sqrt(7 / 3) * loss.loss.height(k) for k in range(7)) ** 2 / 49
    assert best < square < 1.01 * best
    variance, before = square - loss.loss.mean**2, loss.loss.square - loss.loss.mean**2
    assert variance < before / 60


def test_where_u_goes_is_monotone_and_inside_its_share():
    for levels, histories in ((7, uneven()), (4000, 10 ** (4 * randn(4000, 1, seed=6))), (1, torch.ones(1, 1))):
        loss = Resampled(Spiky(), levels, histories.shape[1])
        memory = filled(loss, histories)
        p = memory.probabilities(loss.uniform)
        ends = p.cumsum(0)
        inner = torch.stack([ends - p * 1e-6, ends - p / 2, ends - p * (1 - 1e-6)]).flatten()
        extremes = torch.tensor([0.0, 1e-300, 2.0**-53, 1 - 2.0**-53, 1.0], dtype=DOUBLE)
        u = torch.cat([inner, extremes]).sort().values
        moved, weight = loss.moved(u, memory)
        assert (moved >= 0).all()
        assert (moved < 1).all()
        assert (moved.diff() >= 0).all()
        k = (moved * levels).long()
        assert close(weight, 1 / (levels * p[k]), 1e-12)
        assert torch.equal(k.unique(), torch.arange(levels))


def test_on_a_chain_of_k_steps_the_shares_are_its_knots():
    chain = Table.linear(12, 0.01, 0.5)
    loss = Resampled(VariationalBound(), levels=12, history=2)
    memory = filled(loss, uneven(12, 2))
    p = memory.probabilities(loss.uniform)
    u = p.cumsum(0) - p / 2
    moved, weight = loss.moved(u, memory)
    assert close(loss.times_at(moved, chain) * 12, torch.arange(12, 0, -1).double(), 1e-12)
    assert close(weight * p * 12, torch.ones(12), 1e-12)


# -------------------------------------------------------------------------------------- history


def test_observing_equals_a_slow_reference():
    loss, levels, history = Resampled(Spiky(), 5, 3), 5, 3
    memory, g = Resampled(Spiky(), 5, 3).memory(), seeded(3)
    past = [[] for _ in range(levels)]

    def slow_probabilities():
        if min(len(p) for p in past) < history:
            return [1 / levels] * levels
        root = [math.sqrt(sum(v * v for v in p[-history:]) / history) for p in past]
        return [(1 - loss.uniform) * r / sum(root) + loss.uniform / levels for r in root]

    for _ in range(30):
        u = torch.rand(6, generator=g, dtype=DOUBLE)
        values = evaluate(loss, u, memory)
        p = slow_probabilities()
        assert close(memory.probabilities(loss.uniform), torch.tensor(p, dtype=DOUBLE), 1e-12)
        found = []
        for one, value in zip(u.tolist(), values.tolist(), strict=True):
            k, below = 0, 0.0
            while k < levels - 1 and one >= below + p[k]:
                below += p[k]
                k += 1
            found.append((k, value * levels * p[k]))
        loss.observe(memory, u, values)
        for k, value in found:
            past[k].append(value)
        assert memory.count.tolist() == [min(len(v), history) for v in past]
        for k in range(levels):
            kept = past[k][-history:]
            assert memory.losses[k].tolist() == pytest.approx([0.0] * (history - len(kept)) + kept, rel=1e-9)
    assert min(len(v) for v in past) >= history


def test_what_is_remembered_is_the_loss_itself_not_its_weighted_value():
    loss = Resampled(Spiky(), 7, 3)
    memory = filled(loss, uneven())
    u = torch.tensor([0.31], dtype=DOUBLE)
    value = evaluate(loss, u, memory)
    inside = float(loss.loss(None, None, loss.loss.seen[-1]))
    assert float(value) != pytest.approx(inside, rel=0.1)
    k = int(loss.loss.seen[-2] * 7)
    loss.observe(memory, u, value)
    assert float(memory.losses[k, -1]) == pytest.approx(inside, rel=1e-12)


@pytest.mark.parametrize("around", **named(resampled=lambda loss: loss, told=SelfConditioned))
def test_the_loss_inside_is_told_where_it_was_taken_and_what_it_was(around):
    heard = []

    class Listening(Spiky):
        def observe(self, memory, u, values):
            heard.append((memory, u, values))

    loss = Resampled(Listening(), 7, 3)
    memory = filled(loss, uneven())
    u = torch.tensor([0.05, 0.5, 0.93], dtype=DOUBLE)
    value = evaluate(loss, u, memory)
    moved, weight = loss.moved(u, memory)
    around(loss).observe(memory, u, value)
    assert heard[0][0] is None
    assert torch.equal(heard[0][1], moved)
    assert close(heard[0][2] * weight / value, torch.ones(3), 1e-12)


def test_a_memory_is_stored_and_read_back():
    loss = Resampled(Uncertain(Denoising()), 7, 3)
    memory = filled(loss, uneven())
    again = loss.memory()
    again.load_state_dict(memory.state_dict())
    assert torch.equal(again.probabilities(0.1), memory.probabilities(0.1))
    assert set(memory.state_dict()) == {"losses", "count", "inner.frequency", "inner.phase", "inner.weight"}
    assert memory.losses.dtype == DOUBLE
    assert isinstance(Resampled().memory(), History)
    assert Resampled().memory().inner is None


# --------------------------------------------------------------------------------------- nested


class Net(torch.nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.map = torch.nn.Parameter(randn(2 * inputs, 2 * outputs, seed=8) / 5)

    def forward(self, x, label, cond):
        return torch.tanh(x @ self.map)


NESTED = named(
    uncertain=Resampled(Uncertain(Denoising("v", UniformTimes())), 4, 2),
    told=Resampled(SelfConditioned(Denoising("v")), 4, 2),
    inside=SelfConditioned(Resampled(Uncertain(Denoising("v")), 4, 2)),
    deep=Resampled(SelfConditioned(Uncertain(Denoising("v"))), 4, 2),
    bound=Resampled(VariationalBound(4, bins=0), 4, 2),
)


@pytest.mark.parametrize("loss", **NESTED)
def test_losses_nest_learn_and_remember(loss):
    parameterization = LearnedVariance(V()) if "bound" in repr(loss).lower() else V()
    loss.check(Cosine(), parameterization)
    f = Denoiser(
        Net(1 + loss.self_conditions, parameterization.outputs), Cosine(), parameterization,
        self_conditioned=loss.self_conditions,
    ).double()  # fmt: skip
    memory = loss.memory().double()
    parameters = [*f.parameters(), *memory.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    x0, g = 3 + 0.1 * randn(8, 2, seed=1), seeded(4)
    for _ in range(12):
        u = (torch.arange(8, dtype=DOUBLE) + torch.rand(8, generator=g, dtype=DOUBLE)) / 8
        value = loss(f, x0, u, None, lambda like: torch.randn(like.shape, generator=g, dtype=like.dtype), memory)
        optimizer.zero_grad()
        value.mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
        loss.observe(memory, u, value.detach())
        optimizer.step()
    assert (memory.count == 2).all()
    assert not close(memory.probabilities(0.001), torch.full((4,), 0.25), 0.01)
    if "Uncertain" in repr(loss):
        assert next(m for name, m in memory.named_parameters() if name.endswith("weight")).abs().max() > 0.01


def test_the_times_of_what_is_learned_inside_are_those_drawn():
    # c must be asked at the level at which the loss is taken, not at where u fell.
    loss = Resampled(Uncertain(Denoising("x0", KnotTimes())), 5, 1)
    chain = Table.linear(5, 0.05, 0.6)
    memory = filled(loss, torch.tensor([[1.0], [0.01], [0.01], [0.01], [0.01]], dtype=DOUBLE)).double()
    with torch.no_grad():
        memory.inner.weight.copy_(randn(128, seed=3))
    u = torch.tensor([0.1, 0.5, 0.95], dtype=DOUBLE)
    x0, eps = randn(3, 2, seed=1), randn(3, 2, seed=2)
    f = Stub(chain, lambda x, t: 0 * x)
    got = loss(f, x0, u, None, lambda like: eps, memory)
    moved, weight = loss.moved(u, memory)
    t = KnotTimes()(moved, chain)
    assert not close(t, KnotTimes()(u, chain), 0.1)
    c = memory.inner(chain.log_snr(t))
    assert close(got, weight * (x0.square().mean(1) * (-c).exp() + c), 1e-10)


@pytest.mark.parametrize("inside", **named(direct=Resampled(), told=SelfConditioned(Resampled())))
def test_times_are_chosen_once(inside):
    with pytest.raises(ValueError, match=r"chosen once; use loss\.loss\.kind=denoising"):
        Resampled(inside).check(LinearVP(), Eps())


@pytest.mark.parametrize("settings", [{"levels": 0}, {"history": 0}, {"uniform": 0.0}, {"uniform": 1.1}])
def test_settings_that_make_no_distribution_are_refused(settings):
    with pytest.raises(ValueError, match="Resampled needs"):
        replace(Resampled(), **settings)
