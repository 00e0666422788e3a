"""Weights of diffusers' DiT compute under our names what they do there."""

import math

import pytest
import torch

from reverie.conditioning import Cond
from reverie.interop.diffusers_dit import converted
from reverie.nets import DiTConfig
from reverie.nets.positions import sinusoidal_positions

DiTTransformer2DModel = pytest.importorskip("diffusers").DiTTransformer2DModel

SMALL = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 3,
    "sample_size": 8,
    "num_embeds_ada_norm": 5,
}
SETTINGS = {
    "plain": {"in_channels": 3},
    "learned sigma": {"in_channels": 4, "out_channels": 8},
    "patch 4": {"in_channels": 1, "patch_size": 4},
    "no bias": {"in_channels": 2, "attention_bias": False, "norm_eps": 1e-3},
}


def peer(**settings):
    """Theirs, randomly initialised, its blocks embedding time and class alike, as in all published weights."""
    torch.manual_seed(0)
    net = DiTTransformer2DModel(**SMALL | settings).eval()
    for block in net.transformer_blocks[1:]:
        block.norm1.emb.load_state_dict(net.transformer_blocks[0].norm1.emb.state_dict())
    return net


def batch(net, dtype=torch.float32):
    torch.manual_seed(1)
    x = torch.randn(4, net.config.in_channels, 8, 8, dtype=dtype)
    return x, torch.tensor([0, 7, 250, 999]), torch.tensor([0, 3, 4, 5])  # 5 of 5 classes: none


class ExactTime(torch.nn.Module):
    """Their features of the time with the formula in float64, where they round the angle to float32."""

    def forward(self, t):
        angle = t.double()[:, None] * torch.exp(torch.arange(128).double() * (-math.log(10_000) / 127))
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@torch.no_grad()
def test_outputs_are_theirs(settings):
    theirs = peer(**settings)
    ours = converted(theirs.config, theirs.state_dict()).build()
    x, t, y = batch(theirs)
    expected = theirs(x, t, y).sample
    assert expected.std() > 0.1
    out = ours(x, t, Cond(label=y, drop=y == 5))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@torch.no_grad()
def test_outputs_are_theirs_in_float64(settings):
    """Their tables of positions and time are rounded to float32; with these exact, all the rest is as exact."""
    theirs = peer(**settings).double()
    ours = converted(theirs.config, theirs.state_dict()).build().eval()
    side, width = 8 // theirs.config.patch_size, 24
    theirs.pos_embed.pos_embed = sinusoidal_positions((side, side), width, dtype=torch.float64)[None]
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj = ExactTime()
    x, t, y = batch(theirs, torch.float64)
    expected, none = theirs(x, t, y).sample, theirs(x, t, torch.full((4,), 5)).sample
    torch.testing.assert_close(ours(x, t.double(), Cond(label=y, drop=y == 5)), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(ours(x, t.double()), none, rtol=0, atol=1e-10)


def test_positions_are_theirs():
    theirs = peer(in_channels=1)
    table = sinusoidal_positions((4, 4), 24)
    torch.testing.assert_close(table, theirs.pos_embed.pos_embed[0], rtol=0, atol=1e-6)


def test_what_it_was_built_for_is_read():
    theirs = peer(in_channels=4, out_channels=8)
    read = converted(dict(theirs.config), theirs.state_dict())
    assert (read.shape, read.outputs, read.conditions.classes) == ((4, 8, 8), 2, 5)
    assert (read.config.width, read.config.heads, read.config.depth, read.config.patch) == (24, 2, 3, 2)
    assert read.config.mlp_eps == 1e-5
    net = read.build()
    ours = sum(p.numel() for p in net.parameters())
    copies = sum(p.numel() for p in theirs.transformer_blocks[0].norm1.emb.parameters())
    assert ours == sum(p.numel() for p in theirs.parameters()) - 2 * copies
    with torch.no_grad():
        net.enter.bias.add_(1.0)
    assert torch.equal(converted(theirs.config, theirs.state_dict()).state["enter.bias"], theirs.pos_embed.proj.bias)


def test_an_old_file_with_settings_that_are_off_is_read():
    theirs = peer(in_channels=1)
    old = {**theirs.config, "_class_name": "Transformer2DModel", "cross_attention_dim": None, "num_vector_embeds": None}
    old |= {"attention_type": "default", "only_cross_attention": False}
    table = {"pos_embed.pos_embed": theirs.pos_embed.pos_embed}
    assert converted(old, theirs.state_dict() | table).config == converted(theirs.config, theirs.state_dict()).config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation_fn": "geglu"}, "activation_fn .* must be 'gelu-approximate'.* given 'geglu'"),
        ({"norm_elementwise_affine": True}, "norm_elementwise_affine .* must be False"),
        ({"norm_type": "ada_norm_single"}, "norm_type"),
        ({"dropout": 0.1}, "dropout .* must be 0.0"),
        ({"cross_attention_dim": 64}, "no setting cross_attention_dim; given 64"),
        ({"out_channels": 2}, "multiple of in_channels.* given 2 and 3"),
        ({"_class_name": "UNet2DModel"}, "given that of a UNet2DModel"),
        ({"num_layers": 2}, r"no place for: transformer_blocks\.2\."),
        ({"num_layers": 4}, r"transformer_blocks\.3\..* is missing"),
    ],
)
def test_what_a_dit_has_not_is_refused(change, said):
    theirs = peer(in_channels=3)
    with pytest.raises(ValueError, match=said):
        converted({**theirs.config, **change}, theirs.state_dict())


def test_blocks_with_embeddings_of_their_own_are_refused():
    torch.manual_seed(0)
    theirs = DiTTransformer2DModel(**SMALL, in_channels=1)
    with pytest.raises(ValueError, match="block 1 embeds time and class by other weights"):
        converted(theirs.config, theirs.state_dict())


def test_the_published_network_has_another_longest_period():
    """diffusers divides by 127 where the published network divides by 128; the config says which."""
    theirs = peer(in_channels=1)
    config = converted(theirs.config, theirs.state_dict()).config
    assert config.period ** (-127 / 128) == pytest.approx(1e-4, rel=1e-12)
    assert DiTConfig().period ** (-127 / 128) > 1.07e-4
