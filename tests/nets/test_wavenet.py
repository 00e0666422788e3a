"""Dilated convolutions see what their formula says, and start as published."""

from math import prod

import helpers
import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, randn

from reverie.conditioning import Cond, Conditions
from reverie.config import from_data
from reverie.nets import NetConfig, WaveNetConfig, parameters
from reverie.nets.wavenet import WaveLayer


def stirred(config, shape, conditions=Conditions()):  # noqa: B008
    torch.manual_seed(0)
    return helpers.stirred(config.build(shape, conditions))


@pytest.mark.parametrize(
    ("settings", "length", "field"),
    [
        ({"depth": 1}, 9, 3),
        ({"depth": 3}, 40, 1 + 2 * (1 + 2 + 4)),
        ({"depth": 5, "cycle": 3}, 60, 1 + 2 * (1 + 2 + 4 + 1 + 2)),
        ({"depth": 3, "kernel": 5}, 80, 1 + 4 * (1 + 2 + 4)),
        ({"depth": 4, "kernel": 1}, 9, 1),
    ],
)
def test_the_receptive_field_is_what_the_formula_says(settings, length, field):
    """The gradient of the middle sample is 0 further away, and not 0 within, as far back as ahead."""
    net = stirred(WaveNetConfig(width=8, embedding=8, **settings), (2, length))
    assert net.receptive_field == field
    x, middle = randn(8, 2, length).requires_grad_(), length // 2  # several: a ReLU may be off in one
    net(x, torch.full((8,), 3.0))[..., middle].sum().backward()
    seen = (x.grad.abs().amax((0, 1)) > 0).nonzero().flatten().tolist()
    assert seen == list(range(middle - field // 2, middle + field // 2 + 1))


def test_the_published_field():
    """Three cycles of 1, 2, ..., 512; 2.64 million weights with what reads a spectrogram in every layer there."""
    with torch.device("meta"):
        net = WaveNetConfig().build((1, 16000))
    assert net.receptive_field == 1 + 3 * 2 * 1023 == 6139
    assert parameters(net) + 30 * (80 + 1) * 2 * 64 == pytest.approx(2.64e6, rel=0.01)
    assert from_data(NetConfig, {"kind": "diffwave", "depth": 2}, "net") == WaveNetConfig(depth=2)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 8, 9, 600])
def test_no_layer_looks_past_both_ends(length):
    dilations = WaveNetConfig(depth=24).dilations(length)
    assert len(dilations) == 24
    assert max(dilations) <= max(1, length - 1)
    assert max(dilations) >= min(512, max(1, (length - 1) / 2))


def test_a_layer_is_its_formula():
    torch.manual_seed(0)
    layer = WaveLayer(WaveNetConfig(width=3, embedding=4), 2, last=False).double()
    h, e = randn(2, 3, 7), randn(2, 4, seed=1)
    shifted = F.pad(h + (e @ layer.told.weight.T + layer.told.bias)[:, :, None], (2, 2))
    taps = torch.stack([shifted[:, :, k : k + 7] for k in (0, 2, 4)], dim=-1)
    a, b = (torch.einsum("ock,bclk->bol", layer.gated.weight, taps) + layer.gated.bias[:, None]).chunk(2, 1)
    units = (a.exp() - (-a).exp()) / (a.exp() + (-a).exp()) / (1 + (-b).exp())
    out = torch.einsum("oc,bcl->bol", layer.leave.weight[:, :, 0], units) + layer.leave.bias[:, None]
    torch.testing.assert_close(layer(h, e), out)
    assert WaveLayer(WaveNetConfig(width=3, embedding=4), 2, last=True)(h.float(), e.float()).shape == h.shape


def test_layers_add_residuals_and_skips():
    net = stirred(WaveNetConfig(width=4, depth=3, embedding=8), (1, 9))
    x, label = randn(2, 1, 9), torch.tensor([1.0, 7.0])
    h, e, skips = F.relu(net.enter(x)), net.conditioning(label, None).e, []
    for layer in net.layers[:2]:
        residual, skip = layer(h, e).chunk(2, dim=1)
        h = (h + residual) / 2**0.5
        skips.append(skip)
    total = sum([*skips, net.layers[2](h, e)]) / 3**0.5
    torch.testing.assert_close(net(x, label), net.out(F.relu(net.mix(total))))


def test_away_from_the_ends_it_commutes_with_shifts():
    net = stirred(WaveNetConfig(width=4, depth=3, embedding=8), (1, 40))
    x, label = torch.zeros(1, 1, 40, dtype=DOUBLE), torch.tensor([2.0])
    x[..., 18:22] = randn(4)
    torch.testing.assert_close(net(x.roll(3, -1), label).roll(-3, -1)[..., 10:30], net(x, label)[..., 10:30])


def test_it_takes_waves_of_any_length():
    """The same weights on a longer wave, away from its ends, are the same function."""
    net = stirred(WaveNetConfig(width=4, depth=3, embedding=8), (1, 40))
    x, label = randn(1, 1, 70), torch.tensor([2.0])
    torch.testing.assert_close(net(x, label)[..., 15:25], net(x[..., :40], label)[..., 15:25])


def test_a_spectrogram_beside_the_wave_is_read_where_it_lies():
    net = stirred(WaveNetConfig(width=8, depth=2, embedding=8), (1, 20), Conditions(image=3))
    x, label, image = randn(1, 1, 20), torch.tensor([2.0]), randn(1, 3, 20, seed=1)
    other = image.clone()
    other[..., 10] += 1
    change = (net(x, label, Cond(image=image)) - net(x, label, Cond(image=other)))[0, 0].abs()
    assert (change > 0).nonzero().flatten().tolist() == list(range(7, 14))  # a field of 7


def test_initialisation_is_published():
    """He et al. (2015): standard deviation sqrt(2 / inputs), and an output of 0."""
    torch.manual_seed(0)
    net = WaveNetConfig(width=64, depth=2).build((16, 100))
    for layer in (net.enter, net.mix, net.layers[0].gated, net.layers[0].leave, net.layers[1].leave):
        weight = layer.weight
        assert weight.std().item() == pytest.approx((2 / prod(weight.shape[1:])) ** 0.5, rel=0.05)
    assert net.out.weight.abs().max() == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 0}, "width of net 'wavenet' must be at least 1, given 0"),
        ({"depth": 0}, "depth"),
        ({"cycle": 0}, "cycle"),
        ({"kernel": 4}, "kernel of net 'wavenet' must be odd.* given 4"),
        ({"embedding": 7}, "embedding .* even .* given 7"),
    ],
)
def test_settings_that_no_network_has_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        WaveNetConfig(**settings)
