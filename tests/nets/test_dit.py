"""The diffusion transformer: patches, positions, attention, and what each of its settings changes."""

import copy
import math
from itertools import islice

import pytest
import torch
from helpers import fitted, stirred

from reverie.conditioning import Cond, Conditions
from reverie.config import from_data, to_data
from reverie.nets.attention import QKNorm, SelfAttention, rms_norm
from reverie.nets.base import NetConfig, padded
from reverie.nets.dit import DiTBlock, DiTConfig, exchanged
from reverie.nets.embeddings import sinusoidal
from reverie.nets.patches import join, split
from reverie.nets.positions import rotary, rotated, sinusoidal_positions

DOUBLE = torch.float64
LABEL = torch.tensor([3.0, 400.0], dtype=DOUBLE)
TOKENS = Conditions(tokens=5)
ALL = {"positions": "rotary", "qk_norm": True, "registers": 2, "long_skips": True}
SHAPES = {1: (2, 11), 2: (2, 7, 5), 3: (1, 4, 5, 6)}
PATCHES = {1: 3, 2: (2, 1), 3: (1, 2, 3)}


def built(shape, conditions=None, inputs=1, outputs=1, **settings):
    torch.manual_seed(0)
    config = DiTConfig(**{"width": 24, "depth": 2, "heads": 2} | settings)
    return stirred(config.build(shape, conditions or Conditions(), inputs, outputs))


def normal(*size, seed=1):
    return torch.randn(*size, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def without_attention(block):
    """The block with the gate of its attention 0."""
    width = block.modulation.in_features
    with torch.no_grad():
        block.modulation.weight[2 * width : 3 * width] = 0
        block.modulation.bias[2 * width : 3 * width] = 0


# ------------------------------------------------------------------------------------ patches


@pytest.mark.parametrize(
    ("patch", "grid"),
    [((3,), (4,)), ((2, 2), (3, 5)), ((1, 4), (3, 2)), ((1, 2, 2), (3, 2, 4)), ((2, 3, 1), (1, 2, 5))],
)
def test_patches_are_taken_apart_and_put_together(patch, grid):
    x = normal(2, 3, *(n * p for n, p in zip(grid, patch, strict=True)))
    tokens = split(x, patch)
    assert tokens.shape == (2, math.prod(grid), 3 * math.prod(patch))
    assert torch.equal(join(tokens, patch, grid), x)
    last = tuple(slice(-p, None) for p in patch)
    assert torch.equal(tokens[:, -1], x[(..., *last)].flatten(1))
    second = (*(slice(p) for p in patch[:-1]), slice(patch[-1], 2 * patch[-1]))
    assert torch.equal(tokens[:, 1], x[(..., *second)].flatten(1))  # the last axis is the fastest


def test_a_patch_and_its_linear_map_are_a_strided_convolution():
    x, weight = normal(2, 3, 6, 8), normal(5, 3, 2, 4, seed=2)
    expected = torch.nn.functional.conv2d(x, weight, stride=(2, 4)).flatten(2).mT
    torch.testing.assert_close(split(x, (2, 4)) @ weight.flatten(1).T, expected)


# ---------------------------------------------------------------------------------- positions


@pytest.mark.parametrize(("grid", "width"), [((50,), 8), ((7, 9), 8), ((7, 9), 18), ((4, 5, 6), 20)])
def test_sinusoidal_positions_tell_every_cell_apart(grid, width):
    p = sinusoidal_positions(grid, width, dtype=DOUBLE)
    assert p.shape == (math.prod(grid), width)
    assert torch.cdist(p, p).fill_diagonal_(1).min() > 0.1


def test_sinusoidal_positions_are_those_of_the_axes_the_last_first():
    p = sinusoidal_positions((3, 4, 5), 14, dtype=DOUBLE).reshape(3, 4, 5, 14)
    place = [sinusoidal(torch.tensor(n, dtype=DOUBLE), 4) for n in (4, 3, 2)]  # of 5, of 4, of 3
    torch.testing.assert_close(p[2, 3, 4], torch.cat([*place, torch.zeros(2, dtype=DOUBLE)]))
    with pytest.raises(ValueError, match=r"3 axes .* at least 6, given 4"):
        sinusoidal_positions((3, 4, 5), 4)


@pytest.mark.parametrize(("grid", "shift"), [((9,), (4,)), ((6, 5), (2, 3)), ((4, 5, 3), (1, 2, 1))])
def test_rotated_logits_depend_on_the_difference_of_places(grid, shift):
    """q at one place with k at another: moving both by the same steps along any axes changes nothing."""
    q, k = normal(1, 1, 2, 14), normal(1, 1, 2, 14, seed=2)  # the same query and key everywhere
    turn = rotary(grid, 14, dtype=DOUBLE)
    cells = len(turn[0])
    q, k = (rotated(part.expand(1, cells, 2, 14), turn) for part in (q, k))
    logits = torch.einsum("blhd,bmhd->hlm", q, k).reshape(2, *grid, *grid)
    ahead = tuple(slice(s, None) for s in shift)
    behind = tuple(slice(None, -s) for s in shift)
    moved, still = logits[(slice(None), *ahead, *ahead)], logits[(slice(None), *behind, *behind)]
    torch.testing.assert_close(moved, still, rtol=0, atol=1e-12)
    for axis in range(1, len(grid) + 1):  # and each axis matters
        assert (logits.narrow(axis, 1, 1) - logits.narrow(axis, 0, 1)).abs().max() > 0.1


@pytest.mark.parametrize("grid", [(9,), (6, 5), (4, 5, 3)])
def test_rotated_is_multiplication_by_a_unit_complex_number(grid):
    x, turn = normal(2, math.prod(grid), 3, 16), rotary(grid, 16, dtype=DOUBLE)
    out = rotated(x, turn)
    torch.testing.assert_close(out.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(out[:, 0], x[:, 0])  # the first place is not turned
    share, period = 8 // len(grid), 10_000 if len(grid) == 1 else 100
    slower = period ** (-torch.arange(share, dtype=DOUBLE) / share)
    places = torch.meshgrid(*(torch.arange(n, dtype=DOUBLE) for n in grid), indexing="ij")
    angle = torch.cat([place.flatten()[:, None] * slower for place in places], dim=-1)
    z = torch.complex(*x.chunk(2, dim=-1))
    z[..., : angle.shape[1]] *= torch.exp(1j * angle)[:, None]
    torch.testing.assert_close(out, torch.cat([z.real, z.imag], dim=-1))


def test_a_transformer_knows_where_its_patches_are(monkeypatch):
    """Exchanging halves of an image exchanges those of the result only where there are no positions."""
    label, x = LABEL[:1], normal(1, 1, 4, 4)

    def gap(net):
        return (net(x.roll(2, -2), label) - net(x, label).roll(2, -2)).abs().max()

    assert gap(built((1, 4, 4))) > 1e-3
    assert gap(built((1, 4, 4), positions="rotary")) > 1e-3
    monkeypatch.setattr("reverie.nets.dit.sinusoidal_positions", lambda *_: torch.zeros(4, 24, dtype=DOUBLE))
    assert gap(built((1, 4, 4))) < 1e-12


# ---------------------------------------------------------------------------------- attention


def test_self_attention_is_its_formula():
    torch.manual_seed(0)
    layer, h = stirred(SelfAttention(12, 3, qk_norm=True)), normal(2, 7, 12)
    turn = rotary((7,), 4, dtype=DOUBLE)
    q, k, v = layer.qkv(h).reshape(2, 7, 3, 3, 4).permute(2, 0, 1, 3, 4)
    q, k = (rotated(rms_norm(part, w), turn) for part, w in ((q, layer.norm.q), (k, layer.norm.k)))
    fit = torch.einsum("blhd,bmhd->bhlm", q, k) / 2
    expected = layer.out(torch.einsum("bhlm,bmhd->blhd", fit.softmax(-1), v).flatten(2))
    torch.testing.assert_close(layer(h, turn), expected)


def test_sequences_attend_to_themselves_alone():
    torch.manual_seed(0)
    layer, h = stirred(SelfAttention(12, 3)), normal(2, 8, 12)
    alone = torch.cat([layer(part) for part in h.chunk(4, dim=1)], dim=1)
    torch.testing.assert_close(layer(h, sequences=4), alone)


def test_exchanged_is_its_own_inverse():
    h = normal(2, 12, 3)
    assert torch.equal(exchanged(h, 3)[:, 1], h[:, 4])  # second frame, first place
    assert torch.equal(exchanged(exchanged(h, 3), 4), h)


def test_qk_norm_bounds_the_logits():
    """By sqrt(D) while its scales are 1, whatever comes in; queries and keys have the same length."""
    norm, large = QKNorm(16).to(DOUBLE), 10.0 ** torch.arange(-1, 7, dtype=DOUBLE)[:, None]
    q, k = norm(large * normal(8, 16), large * normal(8, 16, seed=2))
    torch.testing.assert_close(q.square().mean(-1), torch.ones(8, dtype=DOUBLE), rtol=0.02, atol=0)
    assert (q @ k.T / 4).abs().max() <= 4
    assert (norm(large * normal(8, 16), large * normal(8, 16))[0] @ q.T / 4).max() > 3.9  # and reaches it
    torch.testing.assert_close(rms_norm(q, norm.q), torch.nn.functional.rms_norm(q, (16,), norm.q, 1e-6))


@pytest.mark.parametrize("conditions", [Conditions(), TOKENS], ids=["alone", "tokens"])
def test_a_block_starts_as_the_identity(conditions):
    torch.manual_seed(0)
    block = DiTBlock(DiTConfig(width=16, heads=2), bool(conditions.tokens))
    h, e, tokens = torch.randn(2, 5, 16), torch.randn(2, 16), torch.randn(2, 3, 16)
    assert torch.equal(block(h, e, tokens), h)
    torch.nn.init.normal_(block.modulation.weight)
    assert (block(h, e, tokens) - h).abs().max() > 0.1


@pytest.mark.parametrize("rank", SHAPES)
def test_masked_tokens_are_ignored_exactly(rank):
    net, x = built(SHAPES[rank], TOKENS, patch=PATCHES[rank]), normal(2, *SHAPES[rank])
    tokens, mask = normal(2, 6, 5, seed=2), torch.arange(6) < torch.tensor([[4], [6]])
    out = net(x, LABEL, Cond(tokens=tokens, mask=mask))
    others = torch.where(mask[..., None], tokens, 100.0)
    assert torch.equal(net(x, LABEL, Cond(tokens=others, mask=mask)), out)
    absent = net(x[:1], LABEL[:1], Cond(tokens=tokens[:1, :4]))
    torch.testing.assert_close(absent, out[:1], rtol=0, atol=1e-12)
    assert (net(x, LABEL, Cond(tokens=tokens + 1.0, mask=mask)) - out).flatten(1).abs().amax(1).min() > 1e-3


def test_tokens_are_attended_to_place_by_place():
    """Without what is pooled of them, tokens reach the output through attention alone; with gates 0, not at all."""
    net, x = built((1, 4, 4), TOKENS), normal(2, 1, 4, 4)
    with torch.no_grad():
        net.conditioning.tokens.leave.weight.zero_()
    a, b = (Cond(tokens=normal(2, 3, 5, seed=seed)) for seed in (2, 3))
    assert (net(x, LABEL, a) - net(x, LABEL, b)).abs().max() > 1e-3
    with torch.no_grad():
        for block in net.blocks:
            block.modulation.weight[8 * 24 :] = block.modulation.bias[8 * 24 :, None] = 0
    assert torch.equal(net(x, LABEL, a), net(x, LABEL, b))


# ------------------------------------------------------------------- frames, registers, skips


def changed(net, x, index):
    """Which outputs change with one input: (...) bool, of one example."""
    other = x.clone()
    other[index] += 1.0
    return (net(x, LABEL[:1]) - net(other, LABEL[:1])).abs().amax((0, 1)) > 1e-9


@pytest.mark.parametrize("registers", [0, 2])
def test_factorised_blocks_let_through_what_they_should(registers):
    settings = {"patch": (1, 2, 2), "factorised": True, "registers": registers}
    x, index = normal(1, 1, 3, 4, 6), (0, 0, 1, 2, 3)
    frame, place = torch.zeros(2, 3, 4, 6, dtype=torch.bool)
    frame[1], place[:, 2:, 2:4] = True, True
    assert torch.equal(changed(built((1, 3, 4, 6), depth=1, **settings), x, index), frame)
    net = built((1, 3, 4, 6), **settings)
    assert changed(net, x, index).all()
    without_attention(net.blocks[0])
    assert torch.equal(changed(net, x, index), place)


@pytest.mark.parametrize("shape", [(2, 4, 3), (1, 3, 4, 6)])
def test_factorised_is_the_network_of_each_frame_then_of_each_place(shape):
    """Rotary positions of other axes cancel, so that a frame or a place alone is a smaller example of the same net."""
    net, x = built(shape, patch=1, factorised=True, positions="rotary", depth=1), normal(2, *shape)
    frames = [net(frame, LABEL) for frame in x.split(1, dim=2)]
    torch.testing.assert_close(net(x, LABEL), torch.cat(frames, dim=2), rtol=0, atol=1e-12)
    net = built(shape, patch=1, factorised=True, positions="rotary")
    without_attention(net.blocks[0])
    out = net(x, LABEL).flatten(3)
    each = [net(p.reshape(*p.shape[:3], *(1,) * (len(shape) - 2)), LABEL).flatten(3) for p in x.flatten(3).split(1, 3)]
    torch.testing.assert_close(out, torch.cat(each, dim=3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"positions": "rotary", "registers": 2}], ids=["plain", "all"])
def test_one_frame_factorised_is_attention_in_space(settings):
    """The first block, within the frame, is the plain one; the second finds one frame, and every place is alone."""
    x = normal(2, 1, 1, 4, 6)
    plain = built((1, 1, 4, 6), depth=1, patch=(1, 2, 2), **settings)
    by_turns = built((1, 1, 4, 6), depth=1, patch=(1, 2, 2), factorised=True, **settings)
    torch.testing.assert_close(by_turns(x, LABEL), plain(x, LABEL), rtol=0, atol=1e-12)


def test_registers_reach_patches_through_attention_alone():
    """With its gates 0 the result is that of the network without; their order never matters."""
    net, x = built((2, 6, 4), registers=3, positions="rotary"), normal(2, 2, 6, 4)
    plain = built((2, 6, 4), positions="rotary")
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k != "registers"})
    out = net(x, LABEL)
    with torch.no_grad():
        net.registers.copy_(net.registers[[2, 0, 1]].clone())
    torch.testing.assert_close(net(x, LABEL), out, rtol=0, atol=1e-12)
    assert (plain(x, LABEL) - out).abs().max() > 1e-3
    for block in (*net.blocks, *plain.blocks):
        without_attention(block)
    torch.testing.assert_close(net(x, LABEL), plain(x, LABEL), rtol=0, atol=1e-12)


def test_long_skips_start_as_the_network_without():
    torch.manual_seed(0)
    net = DiTConfig(width=24, depth=5, heads=2, long_skips=True).build((1, 4, 6))
    assert all(not p.any() for p in net.skips.parameters())
    net = stirred(net)
    plain = built((1, 4, 6), depth=5)
    for p in net.skips.parameters():
        torch.nn.init.zeros_(p)
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("skips")})
    assert torch.equal(net(normal(2, 1, 4, 6), LABEL), plain(normal(2, 1, 4, 6), LABEL))


@pytest.mark.parametrize(("depth", "joins"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2)])
@pytest.mark.parametrize("factorised", [False, True])
def test_long_skips_join_the_first_blocks_to_the_last(depth, joins, factorised):
    """h <- h + [h, h_i] W before block depth - 1 - i, tokens of a video in the same order again."""
    net = built((1, 2, 4, 6), depth=depth, long_skips=True, factorised=factorised)
    assert net.joins == len(net.skips) == joins
    seen = {}
    for i, block in enumerate(net.blocks):
        block.register_forward_hook(lambda _, given, made, i=i: seen.update({i: (given[0], made)}))
    net(normal(2, 1, 2, 4, 6), LABEL)
    if factorised:  # one frame of 2: places come first where blocks attend across frames
        seen = {i: tuple(exchanged(h, 6) if i % 2 else h for h in both) for i, both in seen.items()}
    for i in range(1, depth):
        expected = seen[i - 1][1]
        if depth - 1 - i < joins:
            expected = expected + net.skips[depth - 1 - i](torch.cat([expected, seen[depth - 1 - i][1]], dim=-1))
        torch.testing.assert_close(seen[i][0], expected)


# -------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize("settings", [{}, ALL], ids=["plain", "all"])
@pytest.mark.parametrize(
    ("patch", "size", "full"),
    [
        (4, (9,), (12,)),
        (4, (9, 14), (12, 16)),
        ((2, 3), (1, 1), (2, 3)),
        ((1, 2, 4), (3, 3, 5), (3, 4, 8)),
    ],
)
def test_any_size_is_the_padded_example_cropped(settings, patch, size, full):
    settings = settings | {"factorised": len(size) == 3 and bool(settings)}
    small, large = (built((2, *s), patch=patch, depth=3, **settings) for s in (size, full))
    x = normal(2, 2, *size)
    enlarged = padded(x, tuple(full))
    assert enlarged.shape[2:] == full
    cut = tuple(slice(n) for n in size)
    assert torch.equal(small(x, LABEL), large(enlarged, LABEL)[(..., *cut)])


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("settings", [{}, ALL], ids=["plain", "all"])
def test_other_sizes_are_those_of_a_network_built_for_them(rank, settings):
    """Positions are computed, so nothing in the weights knows the size."""
    larger = tuple(n + 3 for n in SHAPES[rank][1:])
    here = built(SHAPES[rank], patch=PATCHES[rank], **settings)
    there = built((SHAPES[rank][0], *larger), patch=PATCHES[rank], **settings)
    x = normal(2, SHAPES[rank][0], *larger)
    assert torch.equal(here(x, LABEL), there(x, LABEL))


# ----------------------------------------------------------------------------------- learning


SETTINGS = {
    "plain": {},
    "rotary": {"positions": "rotary"},
    "qk_norm": {"qk_norm": True},
    "registers": {"registers": 2},
    "long skips": {"long_skips": True, "depth": 3},
    "factorised": {"factorised": True},
    "all": ALL | {"depth": 3},
}


LEARNT = [(rank, name) for rank in SHAPES for name in SETTINGS if rank > 1 or name != "factorised"]


@pytest.mark.parametrize(("rank", "name"), LEARNT)
def test_one_batch_is_learnt_by_heart(rank, name):
    """Random targets, told apart by the example, the time and the tokens; the loss falls at least 20 times."""
    torch.manual_seed(0)
    shape, cond = SHAPES[rank], Cond(tokens=torch.randn(6, 2, 5))
    config = DiTConfig(**{"patch": PATCHES[rank], "width": 32, "depth": 2, "heads": 2} | SETTINGS[name])
    net = config.build(shape, TOKENS)
    label, x = torch.linspace(3, 900, 6), torch.randn(2, *shape).repeat(3, *(1,) * len(shape))
    target = torch.randn(6, *shape)
    losses = islice(fitted(net, x, label, cond, target, lr=4e-3), 200)
    first = next(losses)
    assert any(loss < first / 20 for loss in losses)
    assert not [k for k, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("rank", SHAPES)
def test_checkpointing_changes_no_gradient(rank):
    settings = ALL | {"depth": 3, "factorised": rank > 1}
    net, x = built(SHAPES[rank], TOKENS, patch=PATCHES[rank], **settings), normal(2, *SHAPES[rank])
    other = copy.deepcopy(net)
    other.checkpointing = True
    cond = Cond(tokens=normal(2, 3, 5, seed=2), drop=torch.tensor([False, True]))
    for each in (net, other):
        each(x, LABEL, cond).square().sum().backward()
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rank", SHAPES)
def test_forward_derivative_is_the_difference_quotient(rank):
    net, x = built(SHAPES[rank], TOKENS, patch=PATCHES[rank], factorised=rank > 1, **ALL), normal(2, *SHAPES[rank])
    cond = Cond(tokens=normal(2, 3, 5, seed=2), mask=torch.tensor([[True, False, True], [True, True, True]]))
    dx, dlabel, step, label = normal(2, *SHAPES[rank], seed=3), normal(2, seed=4), 1e-5, LABEL / 200
    out, tangent = torch.func.jvp(lambda x, label: net(x, label, cond), (x, label), (dx, dlabel))
    ahead, behind = (net(x + s * dx, label + s * dlabel, cond) for s in (step, -step))
    torch.testing.assert_close(out, net(x, label, cond), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rank", SHAPES)
def test_bfloat16_autocast_stays_near(rank):
    net = built(SHAPES[rank], TOKENS, patch=PATCHES[rank], factorised=rank > 1, **ALL).float()
    x, cond = normal(2, *SHAPES[rank]).float(), Cond(tokens=normal(2, 3, 5, seed=2).float())
    exact = net(x, LABEL.float(), cond)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x, LABEL.float(), cond)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
@pytest.mark.parametrize("registers", [0, 2])
def test_under_autocast_blocks_add_up_in_float32(positions, registers):
    """Eight bits of a sum over many blocks would lose what each adds."""
    net = DiTConfig(width=32, depth=3, heads=2, positions=positions, registers=registers).build((3, 8, 8))
    seen = []
    for block in net.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(2, 3, 8, 8), torch.zeros(2))
    assert seen == [torch.float32] * 3


def test_weights_start_as_published():
    torch.manual_seed(0)
    net = DiTConfig(width=256, depth=1, heads=2).build((3, 8, 8), Conditions(classes=100), outputs=2)
    block, told = net.blocks[0], net.conditioning
    for layer in (net.enter, block.attention.qkv, block.attention.out, block.inner, block.outer):
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
        assert not layer.bias.any()
    for layer in (told.time_in, told.time_out, told.table):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert told.time_in.in_features == 256
    for layer in (block.modulation, net.modulation, net.out):
        assert not layer.weight.any()
        assert not layer.bias.any()


# ----------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "millions", "settings"),
    [
        ("dit-s", 33, (12, 384, 6)),
        ("dit-b", 130, (12, 768, 12)),
        ("dit-l", 458, (24, 1024, 16)),
        ("dit-xl", 675, (28, 1152, 16)),
    ],
)
def test_named_sizes_have_the_published_number_of_parameters(name, millions, settings):
    """Of DiT-S/2 to DiT-XL/2 on latents of 4 x 32 x 32 with a learned variance and 1000 classes (table 1 there)."""
    config = from_data(NetConfig, {"kind": name}, "net")
    assert config == from_data(NetConfig, to_data(config), "net")
    assert (config.depth, config.width, config.heads, config.patch) == (*settings, 2)
    with torch.device("meta"):
        net = config.build((4, 32, 32), Conditions(classes=1000), outputs=2)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6) == millions


@pytest.mark.parametrize("patch", [3, (1, 2, 2)])
def test_patches_survive_a_file(patch):
    config = DiTConfig(patch=patch, positions="rotary")
    assert from_data(NetConfig, to_data(config), "net") == config


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"patch": 0}, "patch of net 'dit' must be at least 1, given 0"),
        ({"patch": (2, 0)}, "patch of net 'dit' must be at least 1, given 0"),
        ({"width": 30, "heads": 5}, "multiple of 4 and of heads=5, given 30"),
        ({"width": 128, "heads": 5}, "heads=5"),
        ({"positions": "learned"}, "must be 'sinusoidal' or 'rotary', given 'learned'"),
        ({"registers": -1}, "registers .* at least 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"period": 1.0}, "period .* above 1"),
        ({"mlp_eps": 0.0}, "mlp_eps above 0"),
    ],
)
def test_settings_that_no_network_has_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        DiTConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "shape", "said"),
    [
        (
            {"patch": (2, 2)},
            (1, 8),
            r"patch=\(2, 2\) .* is for 2 axes, and examples of shape \(1, 8\) have 1; give one",
        ),
        ({"factorised": True}, (1, 8), "needs an axis of time and one of space .* leave it false"),
        ({"positions": "rotary", "width": 16, "heads": 4}, (1, 4, 4, 4), "even width of at least 6, given 4"),
        ({"positions": "rotary", "width": 12, "heads": 4}, (1, 4), "even width of at least 2, given 3"),
        ({"width": 4, "heads": 1}, (1, 4, 4, 4), "sines and cosines need a width of at least 6, given 4"),
        ({}, (5,), "no use for examples of shape"),
    ],
)
def test_shapes_that_the_settings_are_not_for_are_refused(settings, shape, said):
    with pytest.raises(ValueError, match=said):
        DiTConfig(**settings).build(shape)
