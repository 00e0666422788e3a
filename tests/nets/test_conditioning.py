"""Time and conditions as one vector and as tokens: every formula, and what is put where there is nothing."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, randn

from reverie.conditioning import Cond, Conditions
from reverie.nets import sinusoidal
from reverie.nets.embeddings import Conditioning

E, B = 8, 4
LABEL = torch.tensor([0.5, 3.0, 40.0, 900.0], dtype=DOUBLE)
ALL = Conditions(classes=3, vector=5, tokens=6, image=2, level=True)


def made(conditions=ALL, **settings):
    """In float64, no parameter 0."""
    torch.manual_seed(0)
    module = Conditioning(E, conditions, **settings).double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


def told():
    return Cond(
        label=torch.tensor([0, 2, 1, 2]),
        vector=randn(B, 5, seed=1),
        tokens=randn(B, 3, 6, seed=2),
        mask=torch.tensor([[True, True, True], [True, False, True], [False, False, True], [False, False, False]]),
        image=randn(B, 2, 4, 4, seed=3),
        level=torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=DOUBLE),
    )


def affine(layer, x):
    return x @ layer.weight.T + layer.bias


def time(module, features=E, period=10_000.0):
    return affine(module.time_out, F.silu(affine(module.time_in, sinusoidal(LABEL, features, period))))


def mean(tokens, given):
    """Of "nothing" and the tokens of one example, (L, E), weighed by a head with a query of its own."""
    every = torch.cat([tokens.nothing[None], affine(tokens.enter, given)])
    return torch.softmax(every @ tokens.query / E**0.5, dim=0) @ every


def parts(module, cond):
    """What each field adds to the vector where it is given, (B, E)."""
    level = F.silu(affine(module.level.inner.enter, sinusoidal(1000 * cond.level, E)))
    pooled = torch.stack([mean(module.tokens, cond.tokens[i][cond.mask[i]]) for i in range(B)])
    return {
        "label": module.table.weight[cond.label],
        "vector": affine(module.vector.inner, cond.vector),
        "level": affine(module.level.inner.leave, level),
        "tokens": affine(module.tokens.leave, pooled),
        "image": torch.zeros(E, dtype=DOUBLE),
    }


def nothing(module):
    """What it adds where it is not, (E,)."""
    return {
        "label": module.table.weight[3],
        "vector": module.vector.nothing,
        "level": module.level.nothing,
        "tokens": affine(module.tokens.leave, module.tokens.nothing),
        "image": module.image_missing,
    }


@pytest.mark.parametrize(("features", "period"), [(None, 10_000.0), (6, 100.0)])
def test_time_alone(features, period):
    module = made(Conditions(), features=features, period=period)
    got = module(LABEL, None)
    torch.testing.assert_close(got.e, F.silu(time(module, features or E, period)))
    assert got.tokens is None
    assert got.mask is None


def test_the_vector_is_the_sum_of_its_parts():
    module, cond = made(), told()
    torch.testing.assert_close(module(LABEL, cond).e, F.silu(time(module) + sum(parts(module, cond).values())))
    torch.testing.assert_close(module(LABEL, None).e, F.silu(time(module) + sum(nothing(module).values())))


@pytest.mark.parametrize("name", ["label", "vector", "tokens", "level", "image"])
def test_a_field_that_is_none_adds_what_is_learned_for_nothing(name):
    module, cond = made(), told()
    expected = {**parts(module, cond), name: nothing(module)[name]}
    got = module(LABEL, replace(cond, **{name: None}))
    torch.testing.assert_close(got.e, F.silu(time(module) + sum(expected.values())))


def test_tokens_stand_behind_one_for_nothing():
    module, cond = made(), told()
    got = module(LABEL, cond)
    assert torch.equal(got.tokens[:, 0], module.tokens.nothing.expand(B, E))
    expected = affine(module.tokens.enter, cond.tokens)
    torch.testing.assert_close(got.tokens[:, 1:][cond.mask], expected[cond.mask])
    assert torch.equal(got.mask, F.pad(cond.mask, (1, 0), value=True))


def test_without_mask_or_drop_all_tokens_are_seen():
    module, cond = made(), told()
    got, full = module(LABEL, replace(cond, mask=None)), module(LABEL, replace(cond, mask=cond.mask | True))
    assert got.mask is None
    assert full.mask.all()
    torch.testing.assert_close(got.e, full.e)
    absent = module(LABEL, replace(cond, tokens=None))
    assert absent.mask is None
    assert torch.equal(absent.tokens[:, 0], module.tokens.nothing.expand(B, E))
    assert absent.tokens.shape == (B, 1, E)


def test_the_dropped_see_none_of_their_tokens_and_the_others_all():
    module, drop = made(), torch.tensor([True, False, False, True])
    for mask in (None, told().mask):
        got = module(LABEL, replace(told(), mask=mask, drop=drop))
        assert got.mask[:, 0].all()
        assert not got.mask[drop, 1:].any()
        assert torch.equal(got.mask[~drop, 1:], torch.ones(2, 3, dtype=torch.bool) if mask is None else mask[~drop])


def test_dropped_is_not_given_bit_for_bit():
    module, cond, drop = made(), told(), torch.tensor([True, False, True, False])
    out, none, some = module(LABEL, cond).e, module(LABEL, None).e, module(LABEL, replace(cond, drop=drop)).e
    assert torch.equal(some[drop], none[drop])
    assert torch.equal(some[~drop], out[~drop])
    assert torch.equal(module(LABEL, cond.null(B)).e, none)


def test_what_is_dropped_or_masked_may_hold_anything():
    """In gradients too: data with holes, marked by NaN, train."""
    drop = torch.tensor([True, False, False, False])
    cond = replace(told(), drop=drop)
    hole = torch.zeros(B, 3, dtype=torch.bool)
    hole[0] = True
    spoilt = replace(
        cond,
        label=torch.tensor([99, 2, 1, 2]),
        vector=cond.vector.masked_fill(drop[:, None], float("nan")),
        tokens=cond.tokens.masked_fill((hole | ~cond.mask)[:, :, None], float("nan")),
        level=cond.level.masked_fill(drop, float("inf")),
    )
    gradients = []
    for given in (cond, spoilt):
        module = made()
        out = module(LABEL, given)
        assert out.tokens.isfinite().all()
        (out.e.square().sum() + out.tokens.square().sum()).backward()
        gradients.append([p.grad for p in module.parameters()])
    for clean, dirty in zip(*gradients, strict=True):
        assert dirty.isfinite().all()
        assert clean.shape == dirty.shape
    assert torch.equal(made()(LABEL, cond).e, made()(LABEL, spoilt).e)


def test_autocast_drops_as_exactly():
    """What is learned for nothing is not rounded on the way in one case and kept in the other."""
    module, drop = made().float(), torch.tensor([True, False, True, False])
    cond = replace(told().map(lambda v: v.float() if v.is_floating_point() else v), drop=drop)
    with torch.autocast("cpu", torch.bfloat16):
        some, none = module(LABEL.float(), cond), module(LABEL.float(), None)
    torch.testing.assert_close(some.e[drop], none.e[drop], rtol=0, atol=1e-6)
    assert some.e.dtype == torch.float32
    exact = module(LABEL.float(), cond).e
    assert (some.e - exact).abs().max() < 0.03 * exact.abs().max()


def test_forward_mode_through_the_time_and_the_level():
    module, cond = made(), told()

    def f(label, level):
        return module(label, replace(cond, level=level)).e

    label, level, h = LABEL / 100, cond.level, 1e-6
    _, tangent = torch.func.jvp(f, (label, level), (torch.ones_like(label), 0.01 * torch.ones_like(level)))
    ahead, behind = (f(label + s, level + 0.01 * s) for s in (h, -h))
    torch.testing.assert_close(tangent, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("label", torch.zeros(1, dtype=torch.int64), r"label of a condition must be of \(4,\) here; given \(1,\)"),
        ("vector", torch.zeros(4, 3), r"vector .* \(4, 5\) here; given \(4, 3\)"),
        ("vector", torch.zeros(1, 5), r"vector .* \(4, 5\) here; given \(1, 5\)"),
        ("tokens", torch.zeros(4, 6), r"tokens .* \(4, L, 6\) here; given \(4, 6\)"),
        ("tokens", torch.zeros(4, 3, 5), r"tokens .* \(4, 3, 6\) here; given \(4, 3, 5\)"),
        ("mask", torch.ones(4, 2, dtype=torch.bool), r"mask .* \(4, 3\) here; given \(4, 2\)"),
        ("mask", torch.ones(4, 3, dtype=torch.int64), r"mask .* torch.bool; given torch.int64"),
        ("level", torch.zeros(4, 1), r"level .* \(4,\) here; given \(4, 1\)"),
        ("drop", torch.zeros(4), r"drop .* torch.bool; given torch.float32"),
        ("drop", torch.zeros(2, dtype=torch.bool), r"drop .* \(4,\) here; given \(2,\)"),
    ],
)
def test_sizes_that_would_fail_further_in_are_refused(field, value, said):
    with pytest.raises(ValueError, match=said):
        made()(LABEL, replace(told(), **{field: value}))


def test_what_is_not_read_may_have_any_size():
    module = made(Conditions(classes=3))
    cond = Cond(label=torch.tensor([0, 1, 2, 0]), vector=torch.zeros(7), tokens=torch.zeros(2, 2), level=torch.zeros(9))
    assert torch.equal(module(LABEL, cond).e, module(LABEL, Cond(label=cond.label)).e)


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (torch.tensor([0, 1, 3, 2]), r"labels must be in 0\.\.2 for 3 classes, given 3"),  # the row for none
        (torch.tensor([0, -1, 7, 2]), "given -1, 7"),
        (torch.tensor([0.0, 1.0, 1.5, 2.0]), "labels must be integers"),
    ],
)
def test_a_class_that_there_is_not_is_refused_unless_it_is_dropped(label, said):
    module, drop = made(), torch.tensor([False, True, True, False])
    with pytest.raises(ValueError, match=said):
        module(LABEL, Cond(label=label))
    if not label.is_floating_point():
        known = torch.where(drop, 0, label)
        assert torch.equal(module(LABEL, Cond(label=label, drop=drop)).e, module(LABEL, Cond(label=known, drop=drop)).e)


def test_classes_are_read_without_a_look_at_their_values_where_that_is_not_free():
    """In one compiled graph, and under a transform."""
    module, cond = made(Conditions(classes=3)), Cond(label=torch.tensor([0, 2, 1, 2]))
    way = torch.compile(module, backend="eager", fullgraph=True)
    assert torch.equal(way(LABEL, cond).e, module(LABEL, cond).e)

    def of_one(time, label):
        return module(time[None], Cond(label=label[None])).e[0]

    torch.testing.assert_close(torch.vmap(of_one)(LABEL, cond.label), module(LABEL, cond).e)
