"""U-Nets with another number of residual blocks in each level."""

from dataclasses import replace

import pytest
import torch
from helpers import close, randn, stirred

from reverie.conditioning import Cond, Conditions
from reverie.config import from_data, to_data
from reverie.nets import NetConfig, UNetConfig
from reverie.nets.blocks import Stage
from reverie.nets.cost import cost
from reverie.nets.magnitude import MPBlock

CONFIG = UNetConfig(width=8, multipliers=(1, 2, 2), blocks=1, attention=0, head_width=8)
CONDITIONS = Conditions(classes=2)
STYLES = {
    "unet": {},
    "resampling blocks": {"resample": "block"},
    "projected": {"resample": "projected"},
    "attention": {"attention": 8},
    "magnitude": {"magnitude": True},
    "pyramids": {"pyramid_in": "residual", "pyramid_out": "skip"},
}


def built(config, shape=(2, 8, 8), seed=0):
    torch.manual_seed(seed)
    return config.build(shape, CONDITIONS)


def batch(shape=(2, 8, 8), n=3):
    return randn(n, *shape, seed=1), torch.linspace(1, 9, n).double(), Cond(label=torch.arange(n) % 2)


def counted(stages):
    return [len(level) for level in stages]


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@pytest.mark.parametrize("number", [1, 2])
def test_the_same_number_in_each_level_is_that_number_bit_for_bit(style, number):
    """The same names, the same weights of a seed, the same results."""
    one, other = (built(replace(CONFIG, blocks=blocks, **style)) for blocks in (number, (number,) * 3))
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    x, label, cond = batch()
    torch.manual_seed(1)
    one = stirred(one)
    torch.manual_seed(1)
    other = stirred(other)
    out = one(x, label, cond)
    assert torch.equal(out, other(x, label, cond))
    assert out.abs().max() > 0


@pytest.mark.parametrize("blocks", [(0, 1, 2), (1, 0, 3), (2, 1, 1), (0, 0, 1)], ids=str)
@pytest.mark.parametrize("style", ["unet", "resampling blocks", "projected", "attention", "magnitude"])
def test_each_level_has_its_own_and_one_more_on_the_way_up(blocks, style):
    net = built(replace(CONFIG, blocks=blocks, **STYLES[style]))
    assert counted(net.down) == list(blocks)
    assert counted(net.up) == [n + 1 for n in blocks]
    kinds = (MPBlock,) if style == "magnitude" else (Stage,)
    assert all(isinstance(stage, kinds) for level in (*net.down, *net.up) for stage in level)


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 7, 5), (1, 1, 3), (2, 9), (1, 3, 5, 4)], ids=str)
@pytest.mark.parametrize("style", ["unet", "resampling blocks", "projected", "attention", "magnitude"])
@pytest.mark.parametrize("blocks", [(0, 1, 2), (1, 0, 2)], ids=str)
def test_any_size_goes_through_and_starts_at_zero(blocks, style, shape):
    """And every number of what comes out depends on what comes in, at every level."""
    net, (x, label, cond) = built(replace(CONFIG, blocks=blocks, **STYLES[style]), shape), batch(shape)
    assert torch.equal(net(x.float(), label, cond), torch.zeros(x.shape))
    net = stirred(net)
    out = net(x, label, cond)
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert close(net(x[1:2], label[1:2], cond[1:2]), out[1:2], 1e-9)
    net(x, label, cond).square().sum().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None]
    lost = [name for name, p in net.named_parameters() if p.grad.abs().max() == 0]
    assert not lost or min(shape[1:]) == 1


def test_all_that_is_kept_on_the_way_down_is_taken_on_the_way_up():
    """The widths that come in: those of what is kept, in reverse, beside what comes from below."""
    net = built(replace(CONFIG, multipliers=(1, 2, 4), blocks=(0, 1, 2)))
    entering = [[stage.block.conv_in.in_channels for stage in level] for level in net.up]
    assert entering == [[16 + 8], [32 + 16, 16 + 8], [32 + 32, 32 + 32, 32 + 16]]


def test_blocks_where_the_resolution_is_low_cost_less():
    """Fewer operations and less memory at the same number of blocks, and of course with one less."""
    shape = (3, 32, 32)
    early, late, more = (cost(replace(CONFIG, blocks=blocks), shape) for blocks in ((1, 1, 1), (0, 1, 2), (1, 1, 2)))
    assert late.flops < more.flops
    assert late.kept < more.kept
    assert late.parameters < more.parameters
    assert late.flops < early.flops
    assert late.kept < early.kept


def test_which_level_has_how_many():
    config = replace(CONFIG, blocks=(0, 1, 2))
    assert [config.blocks_at(level) for level in range(3)] == [0, 1, 2]
    assert [CONFIG.blocks_at(level) for level in range(3)] == [1, 1, 1]
    assert from_data(NetConfig, to_data(config), "net") == config


def test_checkpointing_changes_no_gradient():
    (x, label, cond), grads = batch(), []
    for on in (False, True):
        net = built(replace(CONFIG, blocks=(0, 1, 2)))
        torch.manual_seed(1)
        net = stirred(net)
        net.checkpointing = on
        net(x, label, cond).square().sum().backward()
        grads.append([p.grad for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("blocks", [(1, 1), (1, 1, 1, 1), (), (-1, 1, 1), (1, 1, 0), (0, 0, 0)], ids=str)
def test_lists_that_do_not_fit_the_levels(blocks):
    given = list(blocks)
    with pytest.raises(ValueError, match="one for each of the 3 levels, at least 0 and at the last at least 1") as said:
        replace(CONFIG, blocks=blocks)
    assert str(said.value).endswith(f"given {given}")


@pytest.mark.parametrize("blocks", [0, -1])
def test_a_number_below_one(blocks):
    with pytest.raises(ValueError, match=f"blocks of net 'unet' must be at least 1, given {blocks}"):
        replace(CONFIG, blocks=blocks)


@pytest.mark.parametrize("pyramid", [{"pyramid_in": "skip"}, {"pyramid_in": "residual"}, {"pyramid_out": "skip"}])
def test_a_pyramid_over_a_level_without_blocks(pyramid):
    with pytest.raises(ValueError, match="a pyramid of net 'unet' needs a block at every level at least; given"):
        replace(CONFIG, blocks=(0, 1, 2), **pyramid)
    assert replace(CONFIG, blocks=(1, 1, 2), **pyramid).blocks == (1, 1, 2)
