"""What every backbone promises, whatever its kind, on every rank of data that it takes and for every condition.

A kind that `SMALL` does not name is tested with its default settings.
"""

import copy
import warnings
from dataclasses import fields, replace
from functools import cache
from itertools import islice

import helpers
import pytest
import torch
from helpers import DOUBLE, default, fitted, randn, seeded
from torch.func import jvp

from reverie.conditioning import Cond, Conditions
from reverie.config import from_data, registered, to_data
from reverie.nets import DiTConfig, MLPConfig, NetConfig, RefineNetConfig, UNetConfig, WaveNetConfig
from reverie.nets.transformer import TransformerConfig

SMALL = {
    "dit": DiTConfig(width=24, depth=2, heads=2),
    "mlp": MLPConfig(width=32, depth=2),
    "transformer": TransformerConfig(width=24, depth=2, heads=2, parts=3),
    "refinenet": RefineNetConfig(width=8, blocks=1, dilations=(), embedding=32),
    "unet": UNetConfig(width=8, multipliers=(1, 2), blocks=1, attention=4, head_width=8),
    "wavenet": WaveNetConfig(width=8, depth=4, cycle=3, embedding=32),
}
CONFIGS = {kind: SMALL.get(kind) or default(cls) for kind, cls in registered(NetConfig).items()}
SHAPES = {0: (5,), 1: (2, 11), 2: (2, 7, 5), 3: (1, 3, 5, 4)}
CASES = [(kind, shape) for kind, c in CONFIGS.items() for shape in SHAPES.values() if c.fits(shape)]
every_kind = pytest.mark.parametrize("kind", CONFIGS)
every_case = pytest.mark.parametrize(("kind", "shape"), CASES, ids=[f"{k}-{len(s) - 1}d" for k, s in CASES])

CLASSES, VECTOR, TOKENS, IMAGE, LENGTH = 3, 4, 6, 2, 3
ALL = Conditions(classes=CLASSES, vector=VECTOR, tokens=TOKENS, image=IMAGE, level=True)
ALONE = {
    "label": Conditions(classes=CLASSES),
    "vector": Conditions(vector=VECTOR),
    "tokens": Conditions(tokens=TOKENS),
    "mask": Conditions(tokens=TOKENS),
    "image": Conditions(image=IMAGE),
    "level": Conditions(image=IMAGE, level=True),
}
IN_OUT = [(1, 1), (2, 1), (1, 2), (3, 2)]
"""How many tensors like an example come in and go out."""


def build(kind, shape, conditions=ALL, inputs=1, outputs=1, seed=0):
    torch.manual_seed(seed)
    return CONFIGS[kind].build(shape, conditions, inputs, outputs)


@cache
def stirred(kind, shape, conditions=ALL, inputs=1, outputs=1):
    """A network in float64 and eval mode, none of its parameters 0 any more; shared, so not to be changed."""
    return helpers.stirred(build(kind, shape, conditions, inputs, outputs))


def told(size, shape):
    """All conditions, another for each example; of each example's tokens, the last is not real."""
    return Cond(
        label=torch.arange(size) % CLASSES,
        vector=randn(size, VECTOR, seed=11),
        tokens=randn(size, LENGTH, TOKENS, seed=12),
        mask=(torch.arange(LENGTH) < LENGTH - 1).expand(size, LENGTH),
        image=randn(size, IMAGE, *shape[1:], seed=13),
        level=torch.linspace(0.1, 0.9, size, dtype=DOUBLE),
    )


def batch(size, shape, inputs=1):
    x = randn(size, inputs * shape[0], *shape[1:], seed=1)
    return x, torch.linspace(3, 900, size, dtype=DOUBLE), told(size, shape)


def single(cond):
    return cond.map(lambda v: v.float() if v.is_floating_point() else v)


def spoilt(cond, where):
    """NaN for all numbers, and a class that there is not, in some of the examples."""

    def f(v):
        bad = float("nan") if v.is_floating_point() else v.dtype != torch.bool and 99
        return v.masked_fill(where.reshape(-1, *(1,) * (v.ndim - 1)), bad)

    return cond.map(f)


def furthest(a, b):
    """(B,), the largest difference in each example."""
    return (a - b).abs().flatten(1).amax(1)


# ------------------------------------------------------------------------------- before training


@every_case
@pytest.mark.parametrize(("inputs", "outputs"), IN_OUT)
def test_starts_at_exactly_zero(kind, shape, inputs, outputs):
    x, label, cond = batch(2, shape, inputs)
    out = build(kind, shape, ALL, inputs, outputs)(x.float(), label, single(cond))
    assert torch.equal(out, torch.zeros(2, outputs * shape[0], *shape[1:]))


@every_case
def test_initialisation_is_the_callers_seed(kind, shape):
    one, two, other = (build(kind, shape, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


@every_case
def test_one_in_and_one_out_is_what_is_built_unless_told(kind, shape):
    nets = (CONFIGS[kind].build(shape, ALL), build(kind, shape), build(kind, shape, ALL, 2, 2))
    plain, told, wide = ({k: v.shape for k, v in net.state_dict().items()} for net in nets)
    assert plain == told
    assert wide.keys() == plain.keys()
    assert 1 <= sum(wide[k] != plain[k] for k in plain) <= 3  # the first and the last layer alone are wider


@every_case
def test_on_the_meta_device_it_has_the_same_weights_and_no_memory(kind, shape):
    with torch.device("meta"):
        net = CONFIGS[kind].build(shape, ALL)
        x, label = torch.zeros(2, *shape), torch.zeros(2)
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in build(kind, shape).state_dict().items()
    }
    assert all(v.is_meta for v in (*net.parameters(), *net.buffers()))
    assert net(x, label).shape == x.shape


# --------------------------------------------------------------------------------------- learning


def learnt(net, x, label, cond, target, steps=250, goal=0.1, lr=1e-2):
    """Whether the squared error falls below `goal` within so many steps of Adam."""
    return any(loss < goal for loss in islice(fitted(net.train(), x, label, cond, target, lr), steps))


@every_case
@pytest.mark.parametrize("condition", ["time", *ALONE])
def test_one_batch_is_learnt_by_heart(kind, shape, condition):
    """Two examples, alike but for one condition, have opposite targets: who cannot see it is off by 0.9.

    Not quite opposite: a network of zeros could stay where it is else, its gradients being 0 but for rounding.
    """
    net = build(kind, shape, ALONE.get(condition, Conditions()))
    x, label = randn(1, *shape).repeat(2, *(1,) * len(shape)).float(), torch.tensor([100.0, 100.0])
    cond, one = single(told(2, shape)), single(told(1, shape))
    same = one.map(lambda v: v.repeat(2, *(1,) * (v.ndim - 1)))
    if condition == "time":
        cond, label = same, torch.tensor([100.0, 400.0])
    elif condition == "mask":
        cond = replace(same, mask=torch.tensor([[True, False, False], [True, True, False]]))
    else:
        cond = replace(same, **{condition: getattr(cond, condition)})
    sign = randn(1, *shape, seed=5).sign().float()
    assert learnt(net, x, label, cond, torch.cat([sign, -0.9 * sign]))


@every_case
def test_two_tensors_in_and_out_are_learnt_by_heart(kind, shape):
    """The first of the targets depends on the second input alone, the second on the first."""
    net, n = build(kind, shape, Conditions(), 2, 2), shape[0]
    x, label = randn(4, 2 * n, *shape[1:]).float(), torch.full((4,), 10.0)
    x[:2, :n], x[2:, :n] = x[:1, :n], x[2:3, :n]  # four pairs of two firsts
    x[::2, n:], x[1::2, n:] = x[:1, n:], x[1:2, n:]  # and two seconds
    sign = randn(2, *shape, seed=5).sign().float()
    by_first, by_second = (torch.tensor(v).reshape(4, *(1,) * len(shape)) for v in ([1, 1, -1, -1], [1, -1, 1, -1]))
    target = torch.cat([by_second * sign[0], by_first * sign[1]], dim=1)
    assert learnt(net, x, label, None, target)


@every_case
def test_gradients_reach_every_parameter(kind, shape):
    net, (x, label, cond) = copy.deepcopy(stirred(kind, shape, ALL, 2, 2)), batch(4, shape, 2)
    drop = torch.tensor([False, False, False, True])
    net(x, label, replace(cond, drop=drop)).square().sum().backward()
    lost = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-8]
    assert not lost


@every_case
def test_checkpointing_changes_no_gradient(kind, shape):
    x, label, cond = batch(2, shape)
    gradients = []
    for checkpointing in (False, True):
        net = copy.deepcopy(stirred(kind, shape))
        net.checkpointing = checkpointing
        net(x, label, cond).square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------- conditions


@every_case
def test_every_input_reaches_every_output(kind, shape):
    net, (x, label, cond) = stirred(kind, shape, ALL, 3, 2), batch(2, shape, 3)
    out, n = net(x, label, cond), shape[0]
    for i in range(3):
        other = x.clone()
        other[:, i * n : (i + 1) * n] += 0.5
        change = (net(other, label, cond) - out).abs().reshape(*out.shape[:2], -1).amax(2)  # (B, outputs C)
        assert change.min() > 1e-4


@every_case
@pytest.mark.parametrize("name", ["time", *ALONE])
def test_every_condition_reaches_every_example(kind, shape, name):
    net, (x, label, cond) = stirred(kind, shape), batch(3, shape)
    out = net(x, label, cond)
    if name == "time":
        others = [net(x, label + 1, cond)]
    else:
        other = ~cond.mask if name == "mask" else getattr(cond, name).roll(1, 0)
        others = [net(x, label, replace(cond, **{name: value})) for value in (other, None)]
    for other in others:
        assert furthest(out, other).min() > 1e-4


@every_case
def test_dropped_is_exactly_not_given(kind, shape):
    """Whatever the dropped fields hold; and the examples beside it keep their own."""
    net, (x, label, cond) = stirred(kind, shape), batch(4, shape)
    out, none = net(x, label, cond), net(x, label, None)
    drop = torch.tensor([True, False, True, False])
    expected = torch.where(drop.reshape(4, *(1,) * len(shape)), none, out)
    torch.testing.assert_close(net(x, label, replace(cond, drop=drop)), expected, rtol=0, atol=1e-13)
    assert torch.equal(net(x, label, replace(spoilt(cond, drop), drop=drop)), net(x, label, replace(cond, drop=drop)))
    torch.testing.assert_close(net(x, label, cond.null(4)), none, rtol=0, atol=1e-13)
    assert torch.equal(net(x, label, Cond(drop=drop)), none)
    assert torch.equal(net(x, label, Cond()), none)
    assert torch.equal(net(x, label), none)


@every_case
def test_masked_tokens_are_not_seen(kind, shape):
    """Neither their values, NaN included, nor their number."""
    net, (x, label, cond) = stirred(kind, shape), batch(2, shape)
    out = net(x, label, cond)
    nan = torch.where(cond.mask[:, :, None], cond.tokens, float("nan"))
    assert torch.equal(net(x, label, replace(cond, tokens=nan)), out)
    short = replace(cond, tokens=cond.tokens[:, :-1], mask=None)
    torch.testing.assert_close(net(x, label, short), out, rtol=0, atol=1e-13)
    unseen, absent = replace(cond, mask=torch.zeros_like(cond.mask)), replace(cond, tokens=None, mask=None)
    torch.testing.assert_close(net(x, label, unseen), net(x, label, absent), rtol=0, atol=1e-13)


@every_case
def test_what_it_was_not_built_for_is_not_read(kind, shape):
    net, (x, label, cond) = stirred(kind, shape, Conditions()), batch(2, shape)
    assert torch.equal(net(x, label, cond), net(x, label, None))


# ---------------------------------------------------------------------------------------- numbers


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_an_example_does_not_see_its_batch(kind, shape, dtype):
    net, (x, label, cond) = copy.deepcopy(stirred(kind, shape)).to(dtype), batch(3, shape)
    x, cond = x.to(dtype), cond if dtype == DOUBLE else single(cond)
    together = net(x, label, cond)
    alone = torch.cat([net(x[i : i + 1], label[i : i + 1], cond[i : i + 1]) for i in range(3)])
    assert together.dtype == dtype
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-11 if dtype == DOUBLE else 1e-3)


@every_case
def test_forward_derivative_is_the_difference_quotient(kind, shape):
    """In x and in the time label; what consistency training differentiates through."""
    net, (x, label, cond) = stirred(kind, shape), batch(2, shape)
    label, h = label / 200, 1e-5
    dx, dlabel = torch.randn(x.shape, dtype=DOUBLE, generator=seeded(3)), torch.tensor([1.0, -0.7], dtype=DOUBLE)
    kept = x.clone(), label.clone()
    out, tangent = jvp(lambda x, label: net(x, label, cond), (x, label), (dx, dlabel))
    ahead, behind = (net(x + s * dx, label + s * dlabel, cond) for s in (h, -h))
    torch.testing.assert_close(out, net(x, label, cond), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-6)
    assert torch.equal(x, kept[0])
    assert torch.equal(label, kept[1])


@every_case
def test_bfloat16_autocast_stays_near(kind, shape):
    net, (x, label, cond) = copy.deepcopy(stirred(kind, shape)).float(), batch(2, shape)
    x, cond = x.float(), single(cond)
    exact = net(x, label, cond)
    with torch.autocast("cpu", torch.bfloat16):
        rough, dropped, none = net(x, label, cond), net(x, label, cond.null(2)), net(x, label)
    assert rough.dtype == x.dtype
    assert 0 < (rough - exact).square().mean().sqrt() < 0.05 * exact.square().mean().sqrt()
    torch.testing.assert_close(dropped, none, rtol=0.02, atol=0.02 * none.detach().abs().max().item())


@every_case
def test_a_copy_is_the_same_and_its_own(kind, shape):
    net, (x, label, cond) = stirred(kind, shape), batch(2, shape)
    other = copy.deepcopy(net)
    assert torch.equal(other(x, label, cond), net(x, label, cond))
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert other(x, label, cond).abs().max() == 0
    assert net(x, label, cond).abs().max() > 0


# ------------------------------------------------------------------------------------------ sizes

SIZES = [(1,), (9,), (1, 1), (9, 4), (3, 12), (1, 1, 1), (2, 5, 3)]
SIZED = [(kind, (2, *size)) for kind, c in CONFIGS.items() for size in SIZES if c.fits((2, *size))]


@pytest.mark.parametrize(("kind", "shape"), SIZED)
def test_any_size_is_the_padded_example_cropped(kind, shape):
    """Zeros are put behind the end of every axis, in the image too, and just as much is cut off."""
    x, label, cond = batch(2, shape)
    small = stirred(kind, shape)
    full = tuple(n + -n % m for n, m in zip(shape[1:], small.multiple, strict=True))
    large = copy.deepcopy(small) if full == shape[1:] else build(kind, (2, *full)).double().eval()
    large.load_state_dict(small.state_dict())

    def enlarged(v):
        out = torch.zeros(*v.shape[:2], *full, dtype=v.dtype)
        out[(..., *(slice(n) for n in shape[1:]))] = v
        return out

    out = small(x, label, cond)
    expected = large(enlarged(x), label, replace(cond, image=enlarged(cond.image)))
    assert out.shape == x.shape
    assert out.isfinite().all()
    assert torch.equal(out, expected[(..., *(slice(n) for n in shape[1:]))])


# --------------------------------------------------------------------------------------- settings


@every_kind
def test_settings_survive_a_file(kind):
    assert from_data(NetConfig, to_data(CONFIGS[kind]), "net") == CONFIGS[kind]


@every_kind
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 8), (2, 4, 4), (1, 2, 4, 4), (1, 2, 2, 2, 2)])
def test_a_shape_of_no_use_is_refused_by_the_names_of_those_who_take_it(kind, shape):
    fitting = [k for k, c in CONFIGS.items() if c.fits(shape)]
    if kind in fitting:
        x = torch.zeros(1, *shape)
        assert CONFIGS[kind].build(shape)(x, torch.zeros(1)).shape == x.shape
    else:
        with pytest.raises(ValueError, match=f"net '{kind}' .*kinds that fit: {', '.join(fitting) or 'none'}$"):
            CONFIGS[kind].build(shape)


@every_case
def test_examples_of_another_shape_are_refused(kind, shape):
    net, (x, label, cond) = stirred(kind, shape), batch(2, shape)
    wanted = rf"built for examples of \({', '.join(map(str, shape))},?\)"
    with pytest.raises(ValueError, match=wanted):
        net(torch.cat([x, x], dim=1), label, cond)
    with pytest.raises(ValueError, match=wanted):
        net(x[..., None], label, cond)
    with pytest.raises(ValueError, match="the size of x with 2 channels"):
        net(x, label, replace(cond, image=cond.image[:, :1]))


@every_case
def test_a_time_label_is_one_for_each_example(kind, shape):
    """One of another number would be spread over the batch, or fail deep inside."""
    net, (x, label, cond) = stirred(kind, shape), batch(3, shape)
    for wrong, size in ((label[0], r"\(\)"), (label[:1], r"\(1,\)"), (label[:, None], r"\(3, 1\)")):
        with pytest.raises(ValueError, match=rf"time label must be of \(3,\), one for each example; given {size}"):
            net(x, wrong, cond)


@every_case
def test_a_batch_may_be_empty(kind, shape):
    x, label, cond = batch(2, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of variances of nothing
        assert stirred(kind, shape)(x[:0], label[:0], cond[:0]).shape == (0, *shape)


@every_kind
def test_a_dropout_acts_in_training_only(kind):
    if "dropout" not in {f.name for f in fields(CONFIGS[kind])}:
        pytest.skip("it has none")
    shape = next(s for k, s in reversed(CASES) if k == kind)
    torch.manual_seed(0)
    net, (x, label, cond) = replace(CONFIGS[kind], dropout=0.5).build(shape, ALL).double(), batch(2, shape)
    net.load_state_dict(stirred(kind, shape).state_dict())
    net.eval()
    assert torch.equal(net(x, label, cond), net(x, label, cond))
    net.train()
    assert not torch.equal(net(x, label, cond), net(x, label, cond))
    for outside in (-0.1, 1.0):
        with pytest.raises(ValueError, match=f"dropout of net '{kind}' must be .*, given {outside}"):
            replace(CONFIGS[kind], dropout=outside)
