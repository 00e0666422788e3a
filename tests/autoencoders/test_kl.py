"""The variational autoencoder: its divergence, its draw, and what any convolutional autoencoder promises."""

import pytest
import torch
from helpers import DOUBLE, close, randn, stirred
from torch.distributions import Normal, kl_divergence

from reverie.autoencoders import AutoencoderConfig, KLConfig, VQConfig
from reverie.autoencoders.kl import divergence
from reverie.config import from_data, to_data
from reverie.nets.blocks import SpatialAttention

SMALL = {"width": 8, "groups": 4, "group_width": 2}
SHAPES = {
    "audio": ((2, 24), ()),
    "image": ((3, 8, 12), ()),
    "video": ((1, 4, 8, 8), ()),
    "short video": ((1, 3, 8, 8), (False, True, True)),
}
KINDS = {
    "kl": lambda **given: KLConfig(**SMALL, **given),
    "vq": lambda **given: VQConfig(**SMALL, codes=16, **given),
}


def made(config, shape, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return stirred(config.build(shape))


def test_the_divergence_is_that_of_the_distributions():
    mean, log_variance = 2 * randn(3, 4, 5, seed=1), randn(3, 4, 5, seed=2)
    q = Normal(mean, (0.5 * log_variance).exp())
    expected = kl_divergence(q, Normal(torch.zeros((), dtype=DOUBLE), 1.0)).flatten(1).sum(1)
    assert close(divergence(mean, log_variance), expected)


def test_latents_follow_the_posterior_and_the_penalty_is_its_divergence():
    net, x = made(KLConfig(**SMALL), (3, 8, 8)), randn(2, 3, 8, 8)
    mean, log_variance = net.posterior(x)
    noise = randn(*mean.shape, seed=3)
    out = net.rebuilt(x, lambda like: noise)
    assert torch.equal(net.encode(x), mean)
    assert close((out.z - mean) / noise, (0.5 * log_variance).exp())
    assert close(out.x, net.decode(out.z))
    assert close(out.penalty, divergence(mean, log_variance))
    assert net.told(x)["kl"] == pytest.approx(out.penalty.sum().item() / mean.numel())


@pytest.mark.parametrize("where", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_beside_silent_convolutions_each_patch_goes_through_a_linear_map_and_back(kind, where):
    shape, halved = SHAPES[where]
    net = made(KINDS[kind](halved=halved), shape)
    silent(net.encoder[-1], net.decoder[-1])
    sides = [4 if h else 1 for h in halved or (True,) * (len(shape) - 1)]
    x = randn(2, *shape)
    patches = cut(x, sides)
    there, back = net.straight_in, net.straight_out
    z = patches @ there.weight.flatten(1).T + there.bias
    assert close(net.encoded(x).flatten(2).mT, z)
    latents = randn(2, *net.config.latent(shape), seed=1)
    expected = latents.flatten(2).mT @ back.weight.flatten(1)
    found = net.decoded(latents) - back.bias.reshape(-1, *(1,) * len(sides))
    assert close(cut(found, sides), expected)


def silent(*layers):
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()


def cut(x, sides):
    """Patches of these sides, one after the other: (B, N, C times the values of a patch)."""
    for axis, side in enumerate(sides):
        x = x.unflatten(2 + 2 * axis, (-1, side))
    rank = len(sides)
    order = (0, *range(2, 2 + 2 * rank, 2), 1, *range(3, 3 + 2 * rank, 2))
    return x.permute(order).flatten(1, rank).flatten(2)


def test_variances_of_weights_gone_wild_stay_finite():
    net = made(KLConfig(**SMALL), (1, 8))
    with torch.no_grad():
        net.encoder[-1].bias[4:] = torch.tensor([1e5, -1e5, 1e5, -1e5], dtype=DOUBLE)
    out = net.rebuilt(randn(1, 1, 8), torch.ones_like)
    assert out.z.isfinite().all()
    assert out.penalty.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("named", SHAPES)
def test_latents_are_of_the_shape_that_is_promised_and_come_back_as_examples(kind, named):
    shape, halved = SHAPES[named]
    config = KINDS[kind](halved=halved)
    net, x = made(config, shape), randn(2, *shape)
    z = net.encode(x)
    assert z.shape[1:] == config.latent(shape)
    factors = [4 if h else 1 for h in halved or (True,) * (len(shape) - 1)]
    assert [n // f for n, f in zip(shape[1:], factors, strict=True)] == list(z.shape[2:])
    assert net.decode(z).shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
def test_no_example_depends_on_the_others(kind):
    net, x = made(KINDS[kind](), (3, 8, 8)), randn(3, 3, 8, 8)
    z = net.encode(x)
    assert close(net.encode(x[1:2]), z[1:2])
    assert close(net.decode(z[1:2]), net.decode(z)[1:2])
    changed = torch.cat([randn(1, 3, 8, 8, seed=5), x[1:]])
    assert close(net.encode(changed)[1:], z[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_no_gradient(kind):
    shape, grads = (2, 8, 8), []
    for checkpointing in (False, True):
        net, x = made(KINDS[kind](), shape).train(), randn(2, *shape)
        net.checkpointing = checkpointing
        out = net.rebuilt(x, torch.ones_like)
        (out.x.square().sum() + out.penalty.sum()).backward()
        grads.append({name: p.grad for name, p in net.named_parameters()})
    assert min(g.abs().max() for g in grads[0].values()) > 0
    assert all(torch.equal(g, grads[1][name]) for name, g in grads[0].items())


def test_attention_is_between_the_two_blocks_of_the_middle_or_left_out():
    """One place at the lowest resolution: attention to itself alone is its value, projected."""
    net = made(KLConfig(**SMALL), (1, 4))
    (at,) = [i for i, layer in enumerate(net.encoder) if isinstance(layer, SpatialAttention)]
    assert [type(net.encoder[i]).__name__ for i in (at - 1, at + 1)] == ["Residual", "Residual"]
    layer, h = net.encoder[at], randn(2, 32, 1)
    value = layer.norm(h)[:, :, 0] @ layer.attention.qkv.weight[64:].T + layer.attention.qkv.bias[64:]
    assert close(layer(h)[:, :, 0], h[:, :, 0] + layer.attention.out(value))
    assert not [
        m for m in made(KLConfig(**SMALL, attention=False), (1, 4)).modules() if isinstance(m, SpatialAttention)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_settings_and_weights_come_back(kind):
    config = KINDS[kind](multipliers=(1, 3), blocks=2, channels=6)
    assert from_data(AutoencoderConfig, to_data(config), "autoencoder") == config
    net, x = made(config, (3, 8, 8)), randn(2, 3, 8, 8)
    other = made(config, (3, 8, 8), seed=1)
    assert not torch.equal(other.decode(other.encode(x)), net.decode(net.encode(x)))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.decode(other.encode(x)), net.decode(net.encode(x)))


def test_bfloat16_inside_gives_float32_outside():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = KLConfig(**SMALL).build((1, 8, 8))
    x = randn(2, 1, 8, 8).float()
    with torch.autocast("cpu", torch.bfloat16):
        out = net.rebuilt(x, torch.zeros_like)
    assert out.x.dtype == out.z.dtype == out.penalty.dtype == torch.float32
    torch.testing.assert_close(out.x, net.rebuilt(x, torch.zeros_like).x, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("shape", "given", "said"),
    [
        (
            (3, 30, 32),
            {},
            r"f = 4 x 4, .* \(3, 30, 32\); bring them to 32 x 32 by data.size, or give fewer multipliers",
        ),
        ((2,), {}, r"one to three axes of space or time; given \(2,\)"),
        ((1, 3, 8, 8), {"halved": (False, True)}, "must be a list of 3"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape, given, said):
    config = KLConfig(**given)
    with pytest.raises(ValueError, match=said):
        config.latent(shape)
    with pytest.raises(ValueError, match=said):
        config.build(shape)


def test_sides_that_do_not_fit_are_refused_by_the_network_too():
    with pytest.raises(ValueError, match="f = 4 x 4"):
        made(KLConfig(**SMALL), (3, 8, 8)).encode(randn(1, 3, 8, 6))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"width": 0}, "width of autoencoder 'kl' must be at least 1, given 0"),
        ({"multipliers": ()}, "at least one level"),
        ({"multipliers": (1, 0)}, "multipliers of autoencoder 'kl' must be at least 1"),
        ({"eps": 0.0}, "eps of autoencoder 'kl' must be above 0"),
    ],
)
def test_settings_that_no_network_has_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        KLConfig(**given)
