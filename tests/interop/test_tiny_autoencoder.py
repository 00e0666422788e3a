"""A `TinyNet` with weights under the published names of TAESD and TAEF2 computes what these stand for."""

import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, randn

from reverie.interop.tiny_autoencoder import converted

WIDTH, LATENT = 8, 6
DOWN, UP = (2, 6, 10), (7, 12, 17)
"""Layers that halve in the encoder, and that follow a doubling in the decoder."""


def weights(pooled, dtype=DOUBLE):
    """Random ones of an encoder and a decoder, by the names in the published files."""
    made = {"encoder": {}, "decoder": {}}

    def new(half, name, *shape):
        scale = (2 / (shape[1] * shape[2] ** 2)) ** 0.5 if len(shape) > 1 else 0.1
        seed = sum(map(ord, half + name)) + 1000 * len(made[half])
        made[half][name] = (scale * randn(*shape, seed=seed)).to(dtype)

    def layer(half, i, channels, out, bias=True):
        new(half, f"{i}.weight", out, channels, 3, 3)
        if bias:
            new(half, f"{i}.bias", out)

    def block(half, i, pool):
        for j in (0, 2, 4):
            new(half, f"{i}.conv.{j}.weight", WIDTH, WIDTH, 3, 3)
            new(half, f"{i}.conv.{j}.bias", WIDTH)
        if pool:
            new(half, f"{i}.pool.0.weight", 4 * WIDTH, WIDTH, 1, 1)
            new(half, f"{i}.pool.1.weight", 4 * WIDTH)
            new(half, f"{i}.pool.1.bias", 4 * WIDTH)
            new(half, f"{i}.pool.3.weight", WIDTH, 4 * WIDTH, 1, 1)

    layer("encoder", 0, 3, WIDTH)
    for i in (1, 3, 4, 5, 7, 8, 9, 11, 12, 13):
        block("encoder", i, pooled and i > 10)
    layer("encoder", 14, WIDTH, LATENT)
    layer("decoder", 1, LATENT, WIDTH)
    for i in (3, 4, 5, 8, 9, 10, 13, 14, 15, 18):
        block("decoder", i, pooled and i < 6)
    layer("decoder", 19, WIDTH, 3)
    for half, plain in (("encoder", DOWN), ("decoder", UP)):
        for i in plain:
            layer(half, i, WIDTH, WIDTH, bias=False)
    return made["encoder"], made["decoder"]


def conv(state, name, h, stride=1):
    weight = state[f"{name}.weight"]
    return F.conv2d(h, weight, state.get(f"{name}.bias"), stride=stride, padding=weight.shape[-1] // 2)


def block(state, i, h):
    if f"{i}.pool.0.weight" in state:
        inner = F.group_norm(conv(state, f"{i}.pool.0", h), 4, state[f"{i}.pool.1.weight"], state[f"{i}.pool.1.bias"])
        h = h + conv(state, f"{i}.pool.3", inner.relu())
    inner = conv(state, f"{i}.conv.2", conv(state, f"{i}.conv.0", h).relu()).relu()
    return (h + conv(state, f"{i}.conv.4", inner)).relu()


def encoded(state, x):
    """x in [0, 1]."""
    for i in range(15):
        x = block(state, i, x) if f"{i}.conv.0.weight" in state else conv(state, str(i), x, 2 if i in DOWN else 1)
    return x


def decoded(state, z):
    """Images about [0, 1]."""
    h = conv(state, "1", 3 * torch.tanh(z / 3)).relu()
    for i in range(3, 20):
        if i + 1 in UP:
            h = h.repeat_interleave(2, 2).repeat_interleave(2, 3)
        else:
            h = block(state, i, h) if f"{i}.conv.0.weight" in state else conv(state, str(i), h)
    return h


@pytest.mark.parametrize("pooled", [False, True], ids=["TAESD", "TAEF2"])
def test_latents_and_images_are_those_of_the_published_architecture(pooled):
    encoder, decoder = weights(pooled)
    found = converted(encoder, decoder)
    net, x, z = found.build((3, 16, 24)), randn(2, 3, 16, 24), 2 * randn(2, LATENT, 2, 3, seed=1)
    assert (found.config.halvings, found.config.blocks, found.config.width) == (3, 3, WIDTH)
    assert (found.config.pooled, found.config.latent((3, 16, 24))) == (pooled, (LATENT, 2, 3))
    expected, images = encoded(encoder, (x + 1) / 2), 2 * decoded(decoder, z) - 1
    assert min(expected.std(), images.std()) > 0.1
    with torch.no_grad():
        torch.testing.assert_close(net.encode(x), expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(net.decode(z), images, rtol=1e-10, atol=1e-10)


def test_they_are_those_of_diffusers_too():
    """`AutoencoderTiny`, whose names differ, and whose decoder does not count what limits latents as a layer."""
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = diffusers.AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 2, 2),
            num_decoder_blocks=(2, 2, 1), latent_channels=5,
        ).double()  # fmt: skip
    halves = {"encoder": {}, "decoder": {}}
    for name, value in theirs.state_dict().items():
        half, _, i, rest = name.split(".", 3)
        halves[half][f"{int(i) + (half == 'decoder')}.{rest}"] = value
    net, x = converted(**halves).build((3, 16, 24)), randn(2, 3, 16, 24)
    with torch.no_grad():
        z = theirs.encode(x).latents
        torch.testing.assert_close(net.encode(x), z, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(net.decode(z), theirs.decode(z).sample, rtol=1e-10, atol=1e-10)


def test_weights_in_half_precision_become_float32():
    halves, singles = weights(True, torch.float16), weights(True, torch.float32)
    net, x = converted(*halves).build((3, 8, 8)), randn(1, 3, 8, 8).float()
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    torch.testing.assert_close(net.encode(x), converted(*singles).build((3, 8, 8)).encode(x), rtol=0.02, atol=0.02)


def test_missing_left_over_and_foreign_weights_are_named():
    encoder, decoder = weights(True)
    with pytest.raises(ValueError, match=r"of a tiny decoder without a place: 21\.weight"):
        converted(encoder, {**decoder, "21.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"4\.conv\.2\.bias of a tiny encoder is missing"):
        converted({k: v for k, v in encoder.items() if k != "4.conv.2.bias"}, decoder)
    with pytest.raises(ValueError, match=r"3\.pool\.1\.weight of a tiny decoder is missing"):
        converted(encoder, weights(False)[1])
    with pytest.raises(ValueError, match=r"no weights of a tiny encoder, .* given 1\.bias, 1\.weight, 10\.conv"):
        converted(decoder, encoder)
    with pytest.raises(ValueError, match="given none"):
        converted({}, {})
    with pytest.raises(ValueError, match=r"f = 8 x 8, .* \(3, 20, 16\); bring them to 24 x 16"):
        converted(encoder, decoder).build((3, 20, 16))
