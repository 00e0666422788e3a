"""What the backbones for images promise beside the contract: sizes, positions, blocks, defaults."""

import pytest
import torch

from reverie.conditioning import Cond
from reverie.nets import DiTConfig, MLPConfig, UNetConfig, parameters, suited
from reverie.nets.blocks import ImageAttention, SelfAttention, attend, groups, padded
from reverie.nets.dit import DiTBlock

DOUBLE = torch.float64


def stirred(net):
    """The same network in float64, none of its parameters 0 any more."""
    net = net.to(DOUBLE).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return net


def built(config, shape):
    torch.manual_seed(0)
    return stirred(config.build(shape, 3))


CONFIGS = [
    (UNetConfig(width=8, multipliers=(1, 1, 2), blocks=1, attention=8, head_width=8), 4),
    (DiTConfig(patch=4, width=16, depth=2, heads=2), 4),
]


@pytest.mark.parametrize(("config", "multiple"), CONFIGS, ids=["unet", "dit"])
@pytest.mark.parametrize("size", [(9, 14), (8, 5), (3, 12), (1, 1)])
def test_any_size_is_the_padded_image_cropped(config, multiple, size):
    """Zeros are put below and to the right, and just as much is cut off."""
    height, width = size
    full = (height + -height % multiple, width + -width % multiple)
    small, large = built(config, (2, *size)), built(config, (2, *full))
    x, label, cond = (
        torch.randn(2, 2, *size, dtype=DOUBLE),
        torch.tensor([1.0, 400.0]),
        Cond(label=torch.tensor([0, 2])),
    )
    enlarged = torch.zeros(2, 2, *full, dtype=DOUBLE)
    enlarged[..., :height, :width] = x
    out = small(x, label, cond)
    assert out.shape == x.shape
    assert torch.equal(out, large(enlarged, label, cond)[..., :height, :width])


def test_padding_goes_below_and_beside():
    x = torch.ones(1, 1, 3, 5)
    assert padded(x, 1) is x
    out = padded(x, 4)
    assert out.shape == (1, 1, 4, 8)
    assert torch.equal(out[..., :3, :5], x)
    assert out.sum() == 15


def test_patches_are_taken_apart_and_put_together():
    net = DiTConfig(patch=2, width=8, depth=1, heads=1).build((3, 4, 6))
    x = torch.randn(2, 3, 4, 6)
    tokens = net._split(x)
    assert torch.equal(net._join(tokens), x)
    assert torch.equal(tokens[:, 4], x[:, :, 2:4, 2:4].flatten(1))  # row 1, column 1 of 2 x 3 patches


# ---------------------------------------------------------------------------------- attention


def test_attention_is_its_formula_with_and_without_forward_mode():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=DOUBLE)
    expected = torch.softmax(torch.einsum("bhie,bhje->bhij", q, k) / 2.0, dim=-1) @ v
    torch.testing.assert_close(attend(q, k, v), expected)
    forward_mode, _ = torch.func.jvp(lambda q: attend(q, k, v), (q,), (torch.ones_like(q),))
    torch.testing.assert_close(forward_mode, expected)


def test_attention_commutes_with_permutations():
    torch.manual_seed(0)
    layer, h, order = stirred(SelfAttention(12, 3)), torch.randn(2, 7, 12, dtype=DOUBLE), torch.randperm(7)
    torch.testing.assert_close(layer(h)[:, order], layer(h[:, order]))


def test_attention_over_an_image_commutes_with_permutations_of_its_pixels():
    torch.manual_seed(0)
    layer, h, order = stirred(ImageAttention(8, 4)), torch.randn(2, 8, 3, 4, dtype=DOUBLE), torch.randperm(12)

    def permuted(h):
        return h.flatten(2)[..., order].unflatten(2, (3, 4))

    torch.testing.assert_close(permuted(layer(h)), layer(permuted(h)))


def test_a_transformer_knows_where_its_patches_are():
    """Exchanging two patches exchanges the results only where there are no positions."""
    net = built(DiTConfig(width=16, depth=2, heads=2), (1, 4, 4))
    x, label = torch.randn(1, 1, 4, 4, dtype=DOUBLE), torch.tensor([3.0])

    def exchanged(x):
        return torch.cat([x[..., 2:, :], x[..., :2, :]], dim=-2)

    assert (net(exchanged(x), label) - exchanged(net(x, label))).abs().max() > 1e-3
    net.positions.zero_()
    torch.testing.assert_close(net(exchanged(x), label), exchanged(net(x, label)))


# ------------------------------------------------------------------------------------- blocks


def test_adaln_zero_block_starts_as_the_identity():
    torch.manual_seed(0)
    block, h, e = DiTBlock(DiTConfig(width=16, heads=2)), torch.randn(2, 5, 16), torch.randn(2, 16)
    assert torch.equal(block(h, e), h)
    torch.nn.init.normal_(block.modulation.weight)
    assert (block(h, e) - h).abs().max() > 0.1


def test_image_attention_starts_as_the_identity():
    h = torch.randn(2, 8, 3, 3)
    assert torch.equal(ImageAttention(8, 4)(h), h)


@pytest.mark.parametrize("channels", range(1, 200))
def test_groups_divide_and_are_wide(channels):
    n = groups(channels)
    assert channels % n == 0
    assert n <= 32
    assert channels // n >= 4 or n == 1


def test_unet_is_equivariant_to_shifts_of_a_whole_cell():
    """Without attention, far from the borders: a shift by 2^(levels - 1) pixels shifts the result."""
    config = UNetConfig(width=4, multipliers=(1, 1), blocks=1)
    net = built(config, (1, 128, 128))
    net.middle_in.attention = torch.nn.Identity()
    x = torch.zeros(1, 1, 128, 128, dtype=DOUBLE)
    x[..., 62:66, 62:66] = torch.randn(4, 4, dtype=DOUBLE)
    label, cut = torch.tensor([2.0]), (..., slice(56, 72), slice(56, 72))
    out, shifted = net(x, label), net(x.roll((2, 4), (-2, -1)), label).roll((-2, -4), (-2, -1))
    torch.testing.assert_close(out[cut], shifted[cut])
    odd = net(x.roll(1, -1), label).roll(-1, -1)
    assert (out[cut] - odd[cut]).abs().max() > 1e-3


def test_attention_stands_where_the_image_is_small():
    config = UNetConfig(width=8, multipliers=(1, 1, 1), blocks=1, attention=8)

    def levels(shape):
        net = config.build(shape)
        return [[isinstance(s.attention, ImageAttention) for s in level] for level in net.down]

    assert levels((1, 32, 32)) == [[False], [False], [True]]
    assert levels((1, 16, 16)) == [[False], [True], [True]]
    assert levels((1, 7, 5)) == [[True], [True], [True]]
    assert levels((1, 32, 4)) == [[False], [False], [True]]


def test_channels_last_changes_nothing():
    net = built(CONFIGS[0][0], (2, 8, 8))
    x, label = torch.randn(2, 2, 8, 8, dtype=DOUBLE), torch.tensor([1.0, 2.0])
    plain = net(x, label)
    last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), label)
    torch.testing.assert_close(plain, last)


def test_a_transformer_refuses_another_size():
    net = DiTConfig(width=8, depth=1, heads=1).build((1, 4, 4))
    with pytest.raises(ValueError, match=r"built for examples of \(1, 4, 4\), given \(1, 4, 6\)"):
        net(torch.zeros(1, 1, 4, 6), torch.zeros(1))


# ----------------------------------------------------------------------------------- defaults


@pytest.mark.parametrize(
    ("shape", "cls"),
    [
        ((2,), MLPConfig),
        ((24, 3), MLPConfig),
        ((1, 3, 64), MLPConfig),
        ((8, 3, 32, 32), MLPConfig),
        ((1, 8, 8), DiTConfig),
        ((3, 16, 12), DiTConfig),
        ((1, 28, 28), UNetConfig),
        ((3, 64, 64), UNetConfig),
        ((3, 256, 200), UNetConfig),
    ],
)
def test_suited_fits_the_shape(shape, cls):
    config = suited(shape)
    assert type(config) is cls
    assert config.fits(shape)


def test_suited_is_small_where_it_trains_in_minutes():
    assert 1.1e6 < parameters(suited((1, 8, 8)).build((1, 8, 8), 10)) < 1.5e6
    assert 0.9e6 < parameters(suited((1, 28, 28)).build((1, 28, 28), 10)) < 1.3e6
    levels = [len(suited((3, side, side)).multipliers) for side in (20, 32, 64, 128, 512)]
    assert levels == [3, 3, 4, 5, 5]


def test_parameters_counts_what_is_trained():
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
    assert parameters(net) == 3 * 4 + 4 + 4 + 1
    net[0].requires_grad_(False)
    assert parameters(net) == 5
