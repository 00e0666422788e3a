import itertools

import pytest
import torch
from helpers import DOUBLE, cases, close, noise_from, randn, seeded

from reverie.conditioning import Cond
from reverie.exact import GaussianMixture
from reverie.losses import Denoising, Independent, OptimalTransport, Pairing, UniformTimes
from reverie.schedules import Flow


def order(x0, eps, cond=None):
    """Which row of the noise each example is given."""
    paired = OptimalTransport()(x0, eps, cond)
    assert paired.dtype == eps.dtype
    same = (paired.unsqueeze(1) == eps.unsqueeze(0)).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1)


def cost(x0, eps):
    return float((x0 - eps).square().sum())


@pytest.mark.parametrize("pairing", **cases(Pairing))
@pytest.mark.parametrize("shape", [(5,), (2, 3, 3)])
def test_every_row_of_the_noise_is_used_once(pairing, shape):
    x0, eps = randn(16, *shape, seed=1), randn(16, *shape, seed=2)
    before = eps.clone()
    paired = pairing(x0, eps, None)
    assert torch.equal(eps, before)
    assert torch.equal(paired.flatten(1).sort(0).values, eps.flatten(1).sort(0).values)
    assert torch.equal(pairing(x0[:1], eps[:1], None), eps[:1])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_cost_is_the_least_of_all_orders(n, seed):
    x0, eps = randn(n, 2, 3, seed=seed), randn(n, 2, 3, seed=seed + 50)
    best = min(cost(x0, eps[list(p)]) for p in itertools.permutations(range(n)))
    assert cost(x0, OptimalTransport()(x0, eps, None)) == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("dropped", [False, True])
def test_examples_are_matched_within_their_class_at_the_least_cost(dropped):
    label = torch.tensor([0, 1, 0, 2, 1, 0, 2, 1, 1, 0])
    drop = torch.tensor([0, 0, 1, 1, 0, 0, 0, 1, 0, 1]).bool() if dropped else None
    x0, eps = randn(10, 2, seed=3), randn(10, 2, seed=4)
    x0[label == 1] += 4  # across classes other orders would be cheaper
    chosen = order(x0, eps, Cond(label=label, drop=drop))
    group = label if drop is None else torch.where(drop, -1, label)
    assert sorted(chosen.tolist()) == list(range(10))
    assert torch.equal(group[chosen], group)
    for value in group.unique():
        rows = (group == value).nonzero()[:, 0].tolist()
        best = min(cost(x0[rows], eps[list(p)]) for p in itertools.permutations(rows))
        assert cost(x0[rows], eps[chosen[rows]]) == pytest.approx(best, rel=1e-12)
    assert cost(x0, eps[chosen]) > cost(x0, OptimalTransport()(x0, eps, None)) + 0.1


def test_conditions_without_a_class_leave_one_group():
    x0, eps = randn(8, 2, seed=1), randn(8, 2, seed=2)
    free = OptimalTransport()(x0, eps, None)
    assert torch.equal(OptimalTransport()(x0, eps, Cond(drop=torch.ones(8, dtype=torch.bool))), free)
    everyone = Cond(label=torch.arange(8), drop=torch.ones(8, dtype=torch.bool))
    assert torch.equal(OptimalTransport()(x0, eps, everyone), free)
    assert torch.equal(OptimalTransport()(x0, eps, Cond(label=torch.arange(8))), eps)


def test_the_noise_of_a_class_stays_standard_normal_and_is_drawn_towards_the_data():
    # 2,000 batches of 12: six of a class far out on the right, six on the left.
    label = torch.tensor([0] * 6 + [1] * 6)
    centre = torch.where(label[:, None] == 0, 3.0, -3.0).double()
    draw = noise_from(seeded(5))
    x0 = [centre + draw(torch.empty(12, 2, dtype=DOUBLE)) for _ in range(2000)]
    eps = [draw(x) for x in x0]
    within = torch.stack([OptimalTransport()(x, e, Cond(label=label)) for x, e in zip(x0, eps, strict=True)])
    across = torch.stack([OptimalTransport()(x, e, None) for x, e in zip(x0, eps, strict=True)])
    n = 2000 * 6
    for k in (0, 1):
        rows = within[:, label == k].flatten(0, 1)
        assert rows.mean(0).abs().max() < 4.6 / n**0.5  # false alarm 4 x 4e-6
        assert (rows.square().mean(0) - 1).abs().max() < 4.6 * (2 / n) ** 0.5
        assert abs(float(across[:, label == k].mean((0, 1))[0])) > 0.4  # without classes the law would be another
    correlation = (torch.stack(x0) - centre).mul(within).mean()
    assert correlation > 0.4
    assert abs(float((torch.stack(x0) - centre).mul(torch.stack(eps)).mean())) < 0.05


def test_matching_makes_the_paths_straighter():
    # Less is left to guess of x0 and eps at a level: the least loss in flow falls (Pooladian et al., 2023).
    f = GaussianMixture(Flow(), torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=DOUBLE), 0.3)
    x0, u, eps = f.sample(256, seeded(1)), torch.full((256,), 0.5, dtype=DOUBLE), randn(256, 2, seed=2)
    times = UniformTimes(0.49, 0.51)
    losses = {}
    for pairing in (Independent(), OptimalTransport()):
        seen = pairing(x0, eps, None)
        x, flow = 0.5 * x0 + 0.5 * seen, seen - x0
        # the best guess by the ten nearest in x
        near = torch.cdist(x, x).topk(11, largest=False).indices[:, 1:]
        losses[pairing] = float((flow[near].mean(1) - flow).square().mean())
        value = Denoising("flow", times, pairing=pairing)(f, x0, u, None, lambda like: eps)
        expected = (f(x, times(u, Flow())).flow((-1.0, 1.0)) - flow).square().mean(1)
        assert close(value, expected, 1e-12)
    assert losses[OptimalTransport()] < 0.25 * losses[Independent()]
