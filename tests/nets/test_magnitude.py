"""Layers and blocks keep the magnitude of what goes through them, and training keeps that of their weights."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, randn
from torch.func import jvp

from reverie.conditioning import Cond, Conditions
from reverie.nets import UNetConfig
from reverie.nets.base import NOTHING
from reverie.nets.blocks import BlockStyle
from reverie.nets.magnitude import MPBlock, MPConv, MPLayer, MPLinear, mp_cat, mp_silu, mp_sum, unit
from reverie.nets.resampling import Resampling

SMALL = UNetConfig(width=8, multipliers=(1, 2), blocks=1, attention=4, head_width=8, magnitude=True)


def magnitude(x):
    return x.square().mean().sqrt().item()


def stirred(config, shape, conditions=NOTHING):
    torch.manual_seed(0)
    net = config.build(shape, conditions).double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return net


# ----------------------------------------------------------------------------------- operations


@pytest.mark.parametrize("scale", [1e-2, 1.0, 1e3])
def test_unit_gives_every_pixel_magnitude_1(scale):
    made = unit(scale * randn(3, 8, 5, 4))
    torch.testing.assert_close(made.square().mean(1), torch.ones(3, 5, 4, dtype=DOUBLE), atol=1e-3, rtol=0)
    assert torch.equal(unit(torch.zeros(1, 4)), torch.zeros(1, 4))


def test_silu_of_a_standard_normal_has_magnitude_1():
    x = torch.linspace(-12, 12, 20001, dtype=DOUBLE)
    density = torch.exp(-x.square() / 2) / (2 * torch.pi) ** 0.5
    assert torch.trapezoid(mp_silu(x).square() * density, x).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
def test_a_sum_of_independent_parts_has_magnitude_1(t):
    a, b = randn(100_000, seed=1), randn(100_000, seed=2)
    assert magnitude(mp_sum(a, b, t)) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(mp_sum(a, b, t) * (t**2 + (1 - t) ** 2) ** 0.5, (1 - t) * a + t * b)


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_stacked_parts_have_their_shares_whatever_their_channels(t):
    a, b = unit(randn(50, 12, 6, seed=1)), unit(randn(50, 4, 6, seed=2))
    made = mp_cat(a, b, t)
    assert magnitude(made) == pytest.approx(1, abs=1e-6)
    shares = made[:, :12].square().sum() ** 0.5, made[:, 12:].square().sum() ** 0.5
    assert (shares[1] / shares[0]).item() == pytest.approx(t / (1 - t))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers_keep_unit_variance(rank):
    torch.manual_seed(0)
    h = randn(8, 16, *(16_384 // 8 if rank == 1 else 24 if rank == 2 else 12,) * rank)
    inside = (..., *(slice(1, -1),) * rank)
    assert magnitude(MPConv(rank, 16, 64).double()(h)[inside]) == pytest.approx(1, rel=0.03)
    assert magnitude(MPConv(rank, 16, 64, 1).double()(h)) == pytest.approx(1, rel=0.03)
    assert magnitude(MPLinear(16, 64).double()(h.movedim(1, -1))) == pytest.approx(1, rel=0.03)


def test_a_layer_gives_each_output_exactly_the_magnitude_of_a_weight_of_length_1():
    layer = MPLinear(7, 3).double()
    torch.testing.assert_close(layer.unit_weight().square().sum(1), torch.ones(3, dtype=DOUBLE), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("resample", "descending"), [("none", True), ("none", False), ("down", True), ("up", False)])
def test_blocks_keep_unit_variance(resample, descending):
    torch.manual_seed(0)
    block = MPBlock(BlockStyle(32, Resampling((2, 2))), 16, 32, False, resample, descending).double()
    made = block(randn(4, 16, 48, 48), None, unit(randn(4, 32, seed=1)))
    assert made.shape[2:] == {"none": (48, 48), "down": (24, 24), "up": (96, 96)}[resample]
    assert magnitude(made) == pytest.approx(1, rel=0.06)


def test_a_network_keeps_magnitude_throughout():
    """Skips and blocks are not independent, and attention takes means: they stay within a factor of 1.5."""
    torch.manual_seed(0)
    net, seen = UNetConfig(width=16, multipliers=(1, 2), blocks=2, attention=8, magnitude=True).build((3, 16, 16)), []
    for module in net.modules():
        if isinstance(module, MPBlock):
            module.register_forward_hook(lambda _m, _args, out: seen.append(magnitude(out)))
    net(torch.randn(8, 3, 16, 16), torch.rand(8))
    assert len(seen) == 4 + 2 + 6 + 2
    assert min(seen) > 1 / 1.5
    assert max(seen) < 1.5


# ------------------------------------------------------------------------------------- training


def test_gradients_are_orthogonal_to_weights():
    net = stirred(SMALL, (2, 8, 6), Conditions(tokens=4)).eval()
    net(randn(2, 2, 8, 6), randn(2), Cond(tokens=randn(2, 3, 4))).square().sum().backward()
    layers = [m.weight for m in net.modules() if isinstance(m, MPLayer)]
    assert len(layers) > 20
    for w in layers:
        cosine = F.cosine_similarity(w.flatten(1), w.grad.flatten(1), dim=1)
        assert w.grad.abs().max() > 1e-8
        assert cosine.abs().max() < 1e-6


def test_results_do_not_depend_on_the_size_of_weights():
    net = stirred(SMALL, (2, 8)).eval()
    x, label = randn(2, 2, 8), randn(2)
    before = net(x, label)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, MPLayer):
                module.weight.mul_(5.0)
    torch.testing.assert_close(net(x, label), before, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "update",
    [partial(torch.optim.SGD, lr=0.1), partial(torch.optim.AdamW, lr=0.1, fused=True)],
    ids=["sgd", "fused"],
)
def test_training_sets_the_size_of_weights_back_after_each_step(update):
    net = stirred(SMALL, (2, 8)).train()
    x, label = randn(2, 2, 8), randn(2)
    layers = [m for m in net.modules() if isinstance(m, MPLayer)]

    def forced():
        return all(
            torch.allclose(m.weight.flatten(1).square().mean(1), torch.ones(1, dtype=DOUBLE), rtol=1e-6) for m in layers
        )

    assert not forced()
    with torch.no_grad():
        net(x, label)
    assert not forced()
    first = net(x, label).square().sum()
    assert forced()
    kept = copy.deepcopy(net.state_dict())
    (first + net(x, label).square().sum()).backward()  # the graph of the first still holds the weights
    assert all(torch.equal(v, kept[name]) for name, v in net.state_dict().items())
    steps = update(net.parameters())
    for back in (net.constrain, lambda: net(x, label)):
        steps.step()
        assert not forced()
        back()
        assert forced()
        kept = copy.deepcopy(net.state_dict())
        net.constrain()
        assert all(torch.equal(v, kept[name]) for name, v in net.state_dict().items())


def test_setting_back_twice_is_once_in_float32():
    """However many numbers a row has, and the rounding of their squares."""
    torch.manual_seed(0)
    for inputs in (1, 7, 1152, 14000):
        layer = MPLinear(inputs, 64)
        torch.nn.init.normal_(layer.weight, std=1.7)
        layer.force()
        once = layer.weight.detach().clone()
        layer.force()
        assert torch.equal(layer.weight, once)


def test_compiled_training_may_compute_blocks_again():
    """Nothing is written to a weight inside what is computed again, where the backward pass would find it changed."""
    net = UNetConfig(width=4, multipliers=(1,), blocks=1, attention=0, magnitude=True).build((1, 4)).double()
    torch.nn.init.ones_(net.gain)
    other, x, label = copy.deepcopy(net), randn(2, 1, 4), randn(2)
    net.checkpointing = True
    torch.compile(net, backend="aot_eager", fullgraph=True)(x, label).square().sum().backward()
    other(x, label).square().sum().backward()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-8, atol=1e-10)


def test_transforms_of_functions_write_to_no_weight():
    net = stirred(SMALL, (2, 8)).train()
    x, label = randn(2, 2, 8), randn(2)
    before = copy.deepcopy(net.state_dict())
    out, tangent = jvp(lambda x: net(x, label), (x,), (torch.ones_like(x),))
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    h = 1e-6
    net.eval()
    torch.testing.assert_close(out, net(x, label), rtol=1e-9, atol=1e-9)
    slope = (net(x + h, label) - net(x - h, label)) / (2 * h)
    torch.testing.assert_close(tangent, slope, rtol=1e-5, atol=1e-7)


def test_settings_of_sums_that_it_has_not_are_refused():
    for settings in ({"rescale": True}, {"pyramid_in": "skip"}, {"pyramid_out": "skip"}):
        with pytest.raises(ValueError, match="has its own sums"):
            UNetConfig(magnitude=True, **settings)
