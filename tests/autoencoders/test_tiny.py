"""The tiny autoencoder as it is trained; `tests/interop` compares it with what is published."""

import pytest
import torch
from helpers import close, randn, stirred

from reverie.autoencoders import AutoencoderConfig, TinyConfig
from reverie.config import from_data, to_data


def made(shape=(3, 8, 12), **given):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return stirred(TinyConfig(**{"width": 8, "blocks": 1, **given}).build(shape))


@pytest.mark.parametrize("shape", [(2, 16), (3, 8, 12), (1, 4, 8, 8)])
@pytest.mark.parametrize("pooled", [False, True])
def test_latents_are_of_the_shape_that_is_promised_and_no_example_depends_on_the_others(shape, pooled):
    net, x = made(shape, pooled=pooled), randn(3, *shape)
    z = net.encode(x)
    assert z.shape[1:] == net.config.latent(shape) == (4, *(n // 4 for n in shape[1:]))
    out = net.decode(z)
    assert out.shape == x.shape
    assert close(net.encode(x[1:2]), z[1:2])
    assert close(net.decode(z[1:2]), out[1:2])


def test_it_draws_nothing_and_has_no_penalty():
    net, x = made(), randn(2, 3, 8, 12)
    out = net.rebuilt(x, torch.full_like)  # would fail if it were called
    assert torch.equal(out.x, net.decode(net.encode(x)))
    assert torch.equal(out.z, net.encode(x))
    assert out.penalty.tolist() == [0.0, 0.0]


def test_the_decoder_hardly_tells_large_latents_apart():
    net, z = made(), randn(1, 4, 2, 3)
    small = (net.decode(1e-3 * z) - net.decode(0 * z)).norm() / 1e-3
    large = (net.decode(30 * z.sign()) - net.decode(60 * z.sign())).norm()
    assert large < 1e-6 * small


def test_pooling_brings_the_far_corner_into_every_latent():
    """Convolutions alone see 3 + ... places around; a norm over all places sees every one."""
    x = randn(1, 3, 64, 8)
    moved = x.clone()
    moved[:, :, -1] += 1
    for pooled in (False, True):
        net = made((3, 64, 8), pooled=pooled)
        off = (net.encode(moved) - net.encode(x)).abs()[:, :, 0].max()
        assert (off > 1e-9) == pooled


def test_checkpointing_changes_no_gradient():
    grads = []
    for checkpointing in (False, True):
        net = made(pooled=True)
        net.checkpointing = checkpointing
        net.rebuilt(randn(2, 3, 8, 12)).x.square().sum().backward()
        grads.append({name: p.grad for name, p in net.named_parameters()})
    assert min(g.abs().max() for g in grads[0].values()) > 0
    assert all(torch.equal(g, grads[1][name]) for name, g in grads[0].items())


def test_settings_come_back_and_those_of_no_network_are_refused():
    config = TinyConfig(width=16, pooled=True)
    assert from_data(AutoencoderConfig, to_data(config), "autoencoder") == config
    with pytest.raises(ValueError, match="halvings of autoencoder 'tiny' must be at least 1, given 0"):
        TinyConfig(halvings=0)
    with pytest.raises(ValueError, match=r"bring them to 32 x 32 by data.size, or give fewer halvings"):
        TinyConfig(halvings=3).build((3, 30, 32))
    with pytest.raises(ValueError, match="there is 'linear'"):
        TinyConfig().latent((5,))
