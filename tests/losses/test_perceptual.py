import copy
import itertools

import pytest
import torch
from helpers import DOUBLE, close, every_schedule, named, randn, stirred
from torch import nn

from reverie.losses.perceptual import LAYERS, NOISE, Perceptual, apart, blocks, spread
from reverie.models import NoisyClassifier
from reverie.nets import DiTConfig, MLPConfig, RefineNetConfig, UNetConfig, WaveNetConfig
from reverie.schedules import Flow
from reverie.tensors import host
from reverie.time_labels import LogSNR

DIT = DiTConfig(width=16, depth=3, heads=2)
UNET = UNetConfig(width=8, multipliers=(1, 2), blocks=1, head_width=8)
NETS = named(
    dit=(DIT, (3, 8, 8)),
    skips=(DiTConfig(width=16, depth=4, heads=2, long_skips=True), (3, 8, 8)),
    unet=(UNET, (3, 8, 8)),
    pyramids=(UNetConfig(width=8, multipliers=(1, 2), blocks=1, pyramid_in="skip", pyramid_out="skip"), (3, 8, 8)),
    refinenet=(RefineNetConfig(width=8, blocks=1), (3, 8, 8)),
    wavenet=(WaveNetConfig(width=8, depth=3), (1, 16)),
    video=(DiTConfig(width=24, depth=2, heads=2, factorised=True), (3, 2, 4, 4)),
    mlp=(MLPConfig(16, 3), (6,)),
)


def classifier(net=DIT, shape=(3, 8, 8), schedule=None):
    torch.manual_seed(0)
    return stirred(NoisyClassifier.build(net, shape, 4, schedule or Flow(), LogSNR()))


@pytest.mark.parametrize(("net", "shape"), **NETS)
def test_it_is_zero_for_equal_examples_and_each_stands_alone(net, shape):
    perceptual, x = Perceptual(classifier(net, shape)), randn(4, *shape, seed=1)
    y = x.clone()
    y[2:] += 0.1 * randn(2, *shape, seed=2)
    found = perceptual(x, y)
    assert torch.equal(found[:2], torch.zeros(2, dtype=DOUBLE))
    assert found[2:].min() > 1e-8
    assert close(found, perceptual(y, x), 1e-12)
    for i in range(4):
        assert close(perceptual(x[i : i + 1], y[i : i + 1]), found[i : i + 1], 1e-10)
    assert perceptual(x.float(), y.float()).dtype == torch.float32


@pytest.mark.parametrize(("net", "shape"), **NETS)
def test_nearer_is_nearer(net, shape):
    """To second order, half the way is a quarter of the distance."""
    perceptual, x, way = Perceptual(classifier(net, shape)), randn(4, *shape, seed=1), randn(4, *shape, seed=2)
    far, near = (perceptual(x + step * way, x) for step in (2e-4, 1e-4))
    assert close(far / near, torch.full((4,), 4.0), 0.1)


def test_it_is_the_distance_of_unit_features_of_the_blocks():
    f, x, y = classifier(), randn(4, 3, 8, 8, seed=1), randn(4, 3, 8, 8, seed=2)
    t = f.schedule.time(-2 * host(NOISE).log())
    assert close(f.schedule.sigma(t) / f.schedule.alpha(t), NOISE, 1e-6)
    kept = []
    for block in f.net.backbone.blocks:
        block.register_forward_hook(lambda _, __, out: kept.append(out))
    f(f.schedule.alpha(t) * x, t)
    f(f.schedule.alpha(t) * y, t)
    expected = 0
    for a, b in zip(kept[:3], kept[3:], strict=True):
        assert a.shape == (4, 16, 16)  # tokens, then channels
        unit = [v / v.norm(dim=2, keepdim=True) for v in (a, b)]
        expected = expected + (unit[0] - unit[1]).square().sum(2).mean(1)
    assert close(Perceptual(classifier())(x, y), expected, 1e-10)


def test_layers_are_spread_over_the_depth_of_a_unet():
    f = classifier(UNetConfig(width=8, multipliers=(1, 2, 2), blocks=2, head_width=8), (3, 8, 8))
    found = Perceptual(f).features(randn(1, 3, 8, 8))
    assert len(found) == LAYERS
    assert [h.shape[2] for h in found] == [8, 4, 2, 4, 8]  # down to the smallest and up again


@pytest.mark.parametrize("count", range(1, 30))
def test_the_spread_is_even(count):
    chosen = spread(count)
    assert len(chosen) == min(count, LAYERS)
    assert chosen[0] == 0
    assert chosen[-1] == count - 1 or count == 1
    steps = [b - a for a, b in itertools.pairwise(chosen)]
    assert min(steps, default=1) >= 1
    assert max(steps, default=1) - min(steps, default=1) <= 1


def test_only_the_direction_of_a_feature_counts_and_not_where_it_is():
    a, b = ([randn(3, 7, 4, 4, seed=s), randn(3, 5, 6, seed=s + 1)] for s in (1, 5))
    scale = [randn(3, 1, 4, 4, seed=9).exp(), randn(3, 1, 6, seed=10).exp()]
    found = apart(a, b)
    assert close(apart([s * h for s, h in zip(scale, a, strict=True)], b), found, 1e-12)
    assert close(apart([h.flip(-1) for h in a], [h.flip(-1) for h in b]), found, 1e-12)
    assert close(apart(a, [-h for h in a]), torch.full((3,), 8.0), 1e-12)  # 4 for each layer: as far as can be
    across = [torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)]
    across[0][:, 0], across[1][:, 1] = 3.0, 0.1
    assert close(apart(across[:1], across[1:]), 2.0 * torch.ones(1), 1e-6)


def test_the_gradient_reaches_the_first_alone():
    f = classifier(UNET)
    x, y = (randn(2, 3, 8, 8, seed=s).requires_grad_() for s in (1, 2))
    Perceptual(f)(x, y).sum().backward()
    assert (x.grad.flatten(1).norm(dim=1) > 1e-6).all()
    assert y.grad is None
    assert all(p.grad is None and p.requires_grad for p in f.parameters())


def test_the_network_is_hidden_and_stays_as_it_is():
    config = DiTConfig(width=16, depth=3, heads=2, dropout=0.5)
    f = classifier(config).train()
    perceptual, x, y = Perceptual(f).train(), randn(2, 3, 8, 8, seed=1), randn(2, 3, 8, 8, seed=2)
    before = perceptual(x, y)
    assert torch.equal(perceptual(x, y), before)  # no dropout
    assert f.training
    assert list(perceptual.parameters()) == list(perceptual.buffers()) == []
    assert perceptual.state_dict() == {}
    with torch.no_grad():
        for p in f.parameters():
            p.zero_()
    perceptual.zero_grad()
    perceptual.half()  # as a trainer may do with all that it has
    assert torch.equal(perceptual(x, y), before)
    assert torch.equal(copy.deepcopy(perceptual)(x, y), before)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_every_process_has_a_time_that_is_almost_clean(schedule):
    perceptual, x = Perceptual(classifier(schedule=schedule)), randn(2, 3, 8, 8, seed=1)
    assert all(h.isfinite().all() for h in perceptual.features(x))
    assert perceptual(x, -x).min() > 1e-8


def test_a_backbone_without_blocks_is_refused():
    f = classifier()
    assert len(blocks(f.net.backbone)) == 3
    f.net.backbone = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"a Linear has no list of blocks.*net\.kind=unet"):
        Perceptual(f)
