"""Resampling, blocks and families of U-Nets, beside what every backbone promises."""

import math
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, fitted, randn, stirred

from reverie.conditioning import Cond, Conditions
from reverie.config import aliases, from_data
from reverie.nets import NetConfig, UNetConfig, kernels, parameters
from reverie.nets.base import NOTHING
from reverie.nets.blocks import BlockStyle, ResidualBlock, SpatialAttention, joined
from reverie.nets.embeddings import Fourier
from reverie.nets.layers import GroupNorm
from reverie.nets.magnitude import MPBlock
from reverie.nets.resampling import CONVOLVE, Downsample, Resampling, Upsample

FAMILIES = [
    name for name, (kind, _) in aliases(NetConfig).items() if kind == "unet" and name not in ("unet-b", "unet-l")
]
TINY = {"width": 8, "multipliers": [1, 2], "blocks": 1, "dropout": 0.0, "attention": [4], "head_width": 8}
PUBLISHED = {"ddpm": 35.7, "ddpmpp": 61.8, "ncsnpp": 62.8, "adm": 295.9, "edm2": 280.2}
"""Millions of parameters, as the papers or their code have them."""
SHAPES = [(2, 7), (2, 7, 5), (1, 3, 5, 4)]
RANKS = [(2,), (2, 2), (2, 2, 2), (1, 2), (1, 2, 2)]
"""Factors of resampling, some with an axis that is left as it is."""


def named(name, **settings):
    return from_data(NetConfig, {"kind": name, **settings}, "net")


def built(config, shape, conditions=NOTHING, **more):
    torch.manual_seed(0)
    return stirred(config.build(shape, conditions, **more))


# ----------------------------------------------------------------------------------- resampling


def size_of(factors, n=6):
    return tuple(n if f == 2 else 5 for f in factors)


@pytest.mark.parametrize("factors", RANKS)
@pytest.mark.parametrize("fir", [False, True])
def test_up_is_the_transpose_of_down(factors, fir):
    """<up(x), y> = 2^(axes halved) <x, down(y)>."""
    by, low = Resampling(factors, fir), size_of(factors)
    x, y = randn(2, 3, *low, seed=1), randn(2, 3, *(n * f for n, f in zip(low, factors, strict=True)), seed=2)
    torch.testing.assert_close((by.up(x) * y).sum(), math.prod(factors) * (x * by.down(y)).sum())


@pytest.mark.parametrize("factors", RANKS)
@pytest.mark.parametrize("fir", [False, True])
def test_constants_are_kept(factors, fir):
    """The gain at frequency 0 is 1; a filter sees zeros beyond the border, one value deep."""
    by, low = Resampling(factors, fir), size_of(factors)
    inside = (..., *(slice(1, -1) if f == 2 else slice(None) for f in factors))
    high = tuple(n * f for n, f in zip(low, factors, strict=True))
    ones = torch.ones(1, 2, *low, dtype=DOUBLE)
    assert torch.equal(by.down(torch.ones(1, 2, *high, dtype=DOUBLE))[inside], ones[inside])
    assert torch.equal(by.up(ones)[inside], torch.ones(1, 2, *high, dtype=DOUBLE)[inside])
    back = by.down(by.up(ones))
    assert torch.equal(back[inside] if fir else back, ones[inside] if fir else ones)


def test_the_filter_is_a_low_pass():
    """The highest frequency has no gain, and each lower one cos^3 of half its angle (three means of two in a row)."""
    by, i = Resampling((2,), fir=True), torch.arange(32, dtype=DOUBLE)
    assert by.down((-1.0) ** i[None, None])[..., 1:-1].abs().max() == 0
    kernel = by.blurred(F.one_hot(torch.tensor([[[8]]]), 17).double()[:, 0])[0, 0]
    for omega in (0.3, 1.0, 2.5):
        response = (kernel * torch.exp(1j * omega * (torch.arange(18) - 8.5))).sum()
        assert response.real.item() == pytest.approx(math.cos(omega / 2) ** 3)


def test_what_is_repeated_or_filtered_is_what_the_papers_say():
    x = torch.tensor([[[4.0, 8.0, 0.0]]])
    assert Resampling((2,)).up(x).tolist() == [[[4, 4, 8, 8, 0, 0]]]
    assert Resampling((2,), fir=True).up(x).tolist() == [[[3, 5, 7, 6, 2, 0]]]
    assert Resampling((2,), fir=True).down(torch.tensor([[[8.0, 0, 16, 8]]])).tolist() == [[[5, 9]]]


@pytest.mark.parametrize("factors", RANKS)
def test_a_convolution_of_repeated_values_is_one_transposed_convolution(factors):
    rank, low = len(factors), size_of(factors, 4)
    h, w, b = randn(2, 3, *low, seed=1), randn(4, 3, *(3,) * rank, seed=2), randn(4, seed=3)
    for v in (h, w, b):
        v.requires_grad_()
    with kernels.plain():
        plain = kernels.convolved_up(h, w, b, factors)
    assert torch.equal(plain, CONVOLVE[rank](Resampling(factors).up(h), w, b, padding=1))
    fast = kernels.convolved_up(h, w, b, factors)
    torch.testing.assert_close(fast, plain)
    by = torch.randn_like(plain)
    for a, c in zip(torch.autograd.grad(fast, (h, w, b), by), torch.autograd.grad(plain, (h, w, b), by), strict=True):
        torch.testing.assert_close(a, c)


@pytest.mark.parametrize("factors", RANKS)
def test_halving_with_zeros_behind_sees_one_further_than_with_zeros_around(factors):
    torch.manual_seed(0)
    by, h = Resampling(factors), randn(1, 2, *size_of(factors, 8))
    around, behind = (Downsample(by, 2, 3, zeros).double() for zeros in ("around", "behind"))
    behind.load_state_dict(around.state_dict())
    ahead = h
    for axis, factor in enumerate(factors, start=2):
        if factor == 2:  # x_{i+1}, and 0 behind the last
            ahead = torch.cat([ahead.narrow(axis, 1, 7), torch.zeros_like(ahead.narrow(axis, 0, 1))], axis)
    inside = (..., *(slice(1, None) if f == 2 else slice(None) for f in factors))
    torch.testing.assert_close(behind(h)[inside], around(ahead)[inside])


@pytest.mark.parametrize("factors", RANKS)
def test_a_filter_and_a_convolution_halve_in_one(factors):
    """Inside, the convolution sees what lies between two values; doubling, what the filter has put there."""
    torch.manual_seed(0)
    by, h = Resampling(factors, fir=True), randn(1, 2, *size_of(factors, 8))
    down, up = Downsample(by, 2, 3).double(), Upsample(by, 2, 3).double()
    w, b, rank = down.conv.weight, down.conv.bias, len(factors)
    every = CONVOLVE[rank](by.blurred(h), w, b, padding=1)  # at every position between two values, and one more
    expected = every[(..., *(slice(1, -1, 2) if f == 2 else slice(None) for f in factors))]
    torch.testing.assert_close(down(h), expected)
    torch.testing.assert_close(up(h), up.conv(by.up(h)))


def test_autocast_leaves_the_filter_exact():
    h = randn(1, 4, 8, 8).to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        rough = Resampling((2, 2), fir=True).down(h)
    assert rough.dtype == torch.bfloat16
    assert torch.equal(rough, Resampling((2, 2), fir=True).down(h.double()).to(torch.bfloat16))


# --------------------------------------------------------------------------------------- blocks


def test_every_norm_of_a_network_has_the_groups_and_eps_of_its_settings():
    net = UNetConfig(width=24, groups=12, group_width=1, eps=1e-3).build((1, 8, 8), Conditions(tokens=4))
    norms = [m for m in net.modules() if isinstance(m, GroupNorm)]
    assert len(norms) > 30
    assert {(m.num_groups, m.eps) for m in norms} == {(12, 1e-3)}


@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("rescale", [True, False])
def test_a_residual_block_is_its_formula(scale_shift, rescale):
    torch.manual_seed(0)
    style = BlockStyle(6, Resampling((2, 2)), scale_shift=scale_shift, rescale=rescale)
    block, h, e = stirred(ResidualBlock(style, 8, 16)), randn(2, 8, 4, 6), randn(2, 6, seed=1)
    inner = block.conv_in(F.silu(F.group_norm(h, 2, block.norm_in.weight, block.norm_in.bias)))
    told = (e @ block.modulation.weight.T + block.modulation.bias)[:, :, None, None]
    if scale_shift:
        inner = F.group_norm(inner, 4) * (1 + told[:, :16]) + told[:, 16:]
    else:
        inner = F.group_norm(inner + told, 4, block.norm_out.weight, block.norm_out.bias)
    expected = (block.skip(h) + block.conv_out(F.silu(inner))) / (math.sqrt(2) if rescale else 1)
    torch.testing.assert_close(block(h, e), expected)


@pytest.mark.parametrize("way", ["down", "up"])
@pytest.mark.parametrize("fir", [False, True])
@pytest.mark.parametrize("projected", [False, True])
def test_a_resampling_block_resamples_both_ways_before_its_convolutions(way, fir, projected):
    torch.manual_seed(0)
    by = Resampling((2, 1), fir)
    move = by.down if way == "down" else by.up
    block, h, e = stirred(ResidualBlock(BlockStyle(6, by), 8, 8, way, projected)), randn(2, 8, 4, 3), randn(2, 6)
    scale, shift = block.modulation(e)[:, :, None, None].chunk(2, 1)
    inner = F.group_norm(block.conv_in(move(block.norm_in(h))), 2) * (1 + scale) + shift
    torch.testing.assert_close(block(h, e), block.skip(move(h)) + block.conv_out(F.silu(inner)))


def test_rescaled_sums_keep_variance():
    a, b = randn(200_000, seed=1), randn(200_000, seed=2)
    assert joined(a, b, rescale=True).var().item() == pytest.approx(1, abs=0.01)
    assert joined(a, b, rescale=False).var().item() == pytest.approx(2, abs=0.02)


def test_blocks_start_as_their_skip():
    style, h, e = BlockStyle(6, Resampling((2, 2)), tokens=True), randn(2, 8, 4, 6).float(), torch.randn(2, 6)
    assert torch.equal(ResidualBlock(style, 8, 8)(h, e), h)
    assert torch.equal(SpatialAttention(style, 8)(h, torch.randn(2, 3, 6)), h)


def test_attention_commutes_with_permutations_of_positions():
    torch.manual_seed(0)
    layer = stirred(SpatialAttention(BlockStyle(6, Resampling((2, 2)), tokens=True, head_width=4), 8))
    h, tokens, order = randn(2, 8, 3, 4), randn(2, 3, 6), torch.randperm(12)

    def permuted(h):
        return h.flatten(2)[..., order].unflatten(2, (3, 4))

    torch.testing.assert_close(permuted(layer(h, tokens)), layer(permuted(h), tokens))


def test_masked_tokens_are_not_looked_at_and_others_are():
    torch.manual_seed(0)
    layer = stirred(SpatialAttention(BlockStyle(6, Resampling((2,)), tokens=True), 8))
    h, tokens, mask = randn(2, 8, 5), randn(2, 4, 6), torch.tensor([[True, True, False, True]] * 2)
    out, other = layer(h, tokens, mask), tokens.clone()
    other[:, 2] += 5
    assert torch.equal(layer(h, other, mask), out)
    torch.testing.assert_close(layer(h, tokens[:, [0, 1, 3]]), out)
    other[:, 3] += 5
    assert (layer(h, other, mask) - out).abs().max() > 1e-3


# ------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_number_of_parameters(name):
    """Within 0.5 %: a learned "no class" and the norms' weights, which scale and shift stand for, differ."""
    shape, conditions = ((3, 64, 64), Conditions(classes=1000)) if name in ("adm", "edm2") else ((3, 32, 32), None)
    with torch.device("meta"):
        net = named(name).build(shape, conditions or Conditions(), outputs=2 if name == "adm" else 1)
    assert parameters(net) / 1e6 == pytest.approx(PUBLISHED[name], rel=5e-3)


def test_sizes_are_what_they_are_named_for():
    with torch.device("meta"):
        small, base, large = (parameters(named(f"unet-{size}").build((3, 32, 32))) for size in "sbl")
    assert 5e6 < small < 10e6
    assert 35e6 < base < 60e6
    assert 250e6 < large < 300e6


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_learns_a_batch_by_heart(name, shape):
    """Noise as target, for examples that time and class alone tell apart in pairs."""
    torch.manual_seed(0)
    config = named(name, **TINY, frequency=0.05)
    net = config.build(shape, Conditions(classes=2))
    x, label = torch.randn(2, *shape).repeat(2, *(1,) * len(shape)), torch.tensor([1.0, 1, 9, 9])
    cond, target = Cond(label=torch.tensor([0, 1, 1, 0])), torch.randn(4, *shape)
    losses = list(islice(fitted(net, x, label, cond, target, lr=3e-2 if config.magnitude else 1e-2), 40))
    assert losses[-1] < losses[0] / 20


@pytest.mark.parametrize("name", FAMILIES)
def test_any_size_is_the_padded_example_cropped(name):
    config = named(name, **{**TINY, "multipliers": [1, 1, 1], "attention": [8]})
    small, large = built(config, (2, 5, 7)), built(config, (2, 8, 8))
    x, label = randn(2, 2, 5, 7), randn(2, seed=1)
    assert torch.equal(small(x, label), large(F.pad(x, (0, 1, 0, 3)), label)[..., :5, :7])


@pytest.mark.parametrize(("halved", "whole"), [((), 2), ((True, False), 1), ((True, True), 2)])
def test_shifts_by_whole_cells_shift_the_result(halved, whole):
    """Far from the borders, without attention; a cell is one pixel on an axis that is not halved."""
    net = built(UNetConfig(width=4, multipliers=(1, 1), blocks=1, attention=0, halved=halved), (1, 96, 96))
    net.middle_in.attention = None
    for norm in (m for m in net.modules() if isinstance(m, GroupNorm)):  # which sees the borders
        norm.forward = lambda h, *_: h
    x = torch.zeros(1, 1, 96, 96, dtype=DOUBLE)
    x[..., 46:50, 46:50] = randn(4, 4)
    label, cut = torch.tensor([2.0]), (..., slice(40, 56), slice(40, 56))
    out, moved = net(x, label), net(x.roll((2, whole), (-2, -1)), label).roll((-2, -whole), (-2, -1))
    torch.testing.assert_close(out[cut], moved[cut])
    if whole == 2:
        assert (net(x.roll(1, -1), label).roll(-1, -1)[cut] - out[cut]).abs().max() > 1e-4


def test_a_short_video_is_not_padded_in_time():
    config = UNetConfig(width=8, multipliers=(1, 1, 1), blocks=1, attention=0, halved=(False, True, True))
    net, seen = config.build((1, 3, 8, 7)), []
    net.middle_in.register_forward_hook(lambda _m, _args, out: seen.append(tuple(out.shape)))
    assert net(torch.zeros(2, 1, 3, 8, 7), torch.zeros(2)).shape == (2, 1, 3, 8, 7)
    assert seen == [(2, 8, 3, 2, 2)]


def test_attention_stands_where_it_is_asked_for():
    levels = (1, 1, 1)
    assert UNetConfig(multipliers=levels, attention=8).attends((1, 32, 32)) == (False, False, True)
    assert UNetConfig(multipliers=levels, attention=8).attends((1, 16, 16)) == (False, True, True)
    assert UNetConfig(multipliers=levels, attention=8).attends((1, 7, 5)) == (True, True, True)
    assert UNetConfig(multipliers=levels, attention=8).attends((1, 32, 4)) == (False, False, True)
    assert UNetConfig(multipliers=levels, attention=(16,)).attends((3, 30, 9)) == (False, True, False)
    assert UNetConfig(multipliers=levels, attention=(32, 8)).attends((3, 32)) == (True, False, True)
    assert UNetConfig(multipliers=levels, attention=()).attends((3, 4, 4)) == (False, False, False)
    assert UNetConfig(multipliers=levels, attention=(16,)).attends((3, 48, 48)) == (False, False, True)
    assert UNetConfig(multipliers=levels, attention=(32, 16)).attends((3, 8, 8)) == (True, False, False)
    assert UNetConfig(multipliers=levels, attention=(4,)).attends((3, 32, 32)) == (False, False, False)
    frames = UNetConfig(multipliers=levels, attention=(8,), halved=(False, True, True))
    assert frames.attends((3, 5, 16, 16)) == (False, True, False)


@pytest.mark.parametrize(("where", "blocks"), [("every", [False] * 3 + [True] * 3), ("last", [False] * 5 + [True])])
def test_attention_on_the_way_up(where, blocks):
    net = UNetConfig(width=8, multipliers=(1, 1), attention=(4,), attention_up=where).build((1, 8, 8))
    assert [stage.attention is not None for level in net.up for stage in level] == blocks


def test_heads_are_as_many_or_as_wide_as_asked_for():
    assert BlockStyle(4, Resampling((2,)), head_width=32).heads_of(128) == 4
    assert BlockStyle(4, Resampling((2,)), head_width=64).heads_of(96) == 1
    assert BlockStyle(4, Resampling((2,)), heads=4).heads_of(256) == 4
    assert BlockStyle(4, Resampling((2,)), heads=4).heads_of(6) == 3
    assert BlockStyle(4, Resampling((2,)), head_width=32).heads_of(200) == 5
    assert BlockStyle(4, Resampling((2,)), head_width=64).heads_of(8) == 1


def test_glorot_weights_have_their_variance_and_ends_are_0():
    torch.manual_seed(0)
    net = UNetConfig(width=64, multipliers=(1, 2), initial="glorot").build((3, 16, 16), Conditions(tokens=8))
    stage = net.down[1][0]
    weight, qkv = stage.block.conv_in.weight, stage.attention.attention.qkv.weight
    assert weight.std().item() == pytest.approx((2 / (9 * (64 + 128))) ** 0.5, rel=0.02)
    assert weight.abs().max().item() <= (6 / (9 * (64 + 128))) ** 0.5
    assert qkv.std().item() == pytest.approx((2 / (128 + 128)) ** 0.5, rel=0.02)
    ends = (stage.block.conv_out, stage.attention.attention.out, stage.attention.cross.out, net.out)
    assert all(p.abs().max() == 0 for layer in ends for p in layer.parameters())


def test_random_frequencies_are_drawn_once_with_their_scale():
    torch.manual_seed(0)
    waves, label = Fourier(20_000, 16.0), torch.tensor([0.5], dtype=DOUBLE)
    assert waves.frequencies.std().item() == pytest.approx(16, rel=0.03)
    sines, cosines = waves(label).chunk(2, 1)
    torch.testing.assert_close(sines, torch.sin(math.pi * waves.frequencies.double())[None])
    torch.testing.assert_close(sines.square() + cosines.square(), torch.ones_like(sines))


def test_settings_beside_a_name_win():
    config = named("ddpm", width=64, dropout=0.0)
    assert (config.width, config.dropout, config.zeros, config.heads) == (64, 0.0, "behind", 1)
    assert isinstance(named("edm2", width=8).build((1, 8)).middle_in, MPBlock)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 7}, "width of net 'unet' must be even"),
        ({"attention": (8, -1)}, "attention"),
        ({"heads": -1}, "heads"),
        ({"eps": 0.0}, "eps"),
        ({"groups": 0}, "groups"),
        ({"blocks": 0}, "blocks"),
        ({"multipliers": ()}, "at least one level"),
        ({"resample": "bloc"}, "resample of net 'unet' must be 'conv' or 'block' or 'projected', given 'bloc'"),
        ({"time": "Fourier"}, "time of net 'unet' must be 'sinusoidal' or 'fourier', given 'Fourier'"),
        ({"pyramid_in": "none "}, "pyramid_in"),
    ],
)
def test_settings_that_no_network_has_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        UNetConfig(**settings)


def test_a_list_of_halved_axes_is_one_for_each():
    with pytest.raises(ValueError, match=r"a list of 3 for examples of \(1, 4, 8, 8\)"):
        UNetConfig(halved=(True, True)).build((1, 4, 8, 8))
