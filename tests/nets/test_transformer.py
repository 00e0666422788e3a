"""The transformer for vectors, beside what every backbone promises: its parts, its blocks, and the text it is told."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import close, randn, stirred

from reverie.conditioning import Cond, Conditions, Reader
from reverie.nets import DiTConfig
from reverie.nets.cost import cost
from reverie.nets.transformer import TransformerConfig

CONFIG = TransformerConfig(width=16, depth=2, heads=2, parts=3)
C = 5


def built(conditions=Conditions(), config=CONFIG, inputs=1, outputs=1, seed=0):  # noqa: B008  # it is frozen
    torch.manual_seed(seed)
    return stirred(config.build((C,), conditions, inputs, outputs))


def batch(n=4):
    return randn(n, C, seed=1), torch.linspace(1, 9, n).double()


# ------------------------------------------------------------------------------------ its formula


def test_it_is_its_formula():
    """Parts W_p x + position_p, blocks, and of all parts together what comes out, behind a norm with adaLN."""
    net, (x, label) = built(), batch()
    e = net.conditioning(label, None).e
    rows = net.enter.weight.unflatten(0, (3, 16))
    h = torch.stack([x @ w.T + b + p for w, b, p in zip(rows, net.enter.bias.unflatten(0, (3, 16)), net.position,
                                                        strict=True)], 1)  # fmt: skip
    for block in net.blocks:
        h = block(h, e, None, None)
    shift, scale = (e @ net.modulation.weight.T + net.modulation.bias)[:, None].chunk(2, -1)
    h = F.layer_norm(h, (16,), eps=1e-6) * (1 + scale) + shift
    expected = torch.cat(list(h.unbind(1)), 1) @ net.out.weight.T + net.out.bias
    assert close(net(x, label), expected, 1e-9)


def test_its_blocks_are_those_of_a_dit():
    config = DiTConfig(width=16, depth=2, heads=2)
    theirs = config.build((1, 4, 4), Conditions(tokens=6)).blocks.state_dict()
    ours = CONFIG.build((C,), Conditions(tokens=6)).blocks.state_dict()
    assert {name: v.shape for name, v in ours.items()} == {name: v.shape for name, v in theirs.items()}


def test_each_part_sees_the_others():
    """Of a vector whose first number is read by the first part alone, what the last part says depends on it."""
    net, (x, label) = built(), batch()
    with torch.no_grad():
        net.enter.weight.unflatten(0, (3, 16))[1:, :, 0] = 0
        net.out.weight.unflatten(1, (3, 16))[:, :2] = 0
    moved = x + F.one_hot(torch.tensor(0), C)
    alone = replace(CONFIG, parts=1)
    assert (net(moved, label) - net(x, label)).abs().amax(1).min() > 1e-4
    for block in net.blocks:  # and where attention adds nothing, it does not
        block.forward = lambda h, *_: h
    assert close(net(moved, label), net(x, label))
    assert sum(p.numel() for p in alone.build((C,)).parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("setting", "larger"), [("width", 32), ("depth", 3), ("parts", 6)], ids=["width", "depth", "parts"]
)
def test_what_is_larger_costs_more(setting, larger):
    one, more = (cost(config, (C,), Conditions(tokens=6)) for config in (CONFIG, replace(CONFIG, **{setting: larger})))
    assert one.flops < more.flops
    assert one.parameters < more.parameters


# --------------------------------------------------------------------------------------- its text


def test_before_training_it_says_nothing_and_sees_every_token_after():
    conditions, (x, label) = Conditions(tokens=6), batch()
    tokens, mask = randn(4, 3, 6, seed=2), torch.tensor([[True, True, False]] * 4)
    torch.manual_seed(0)
    fresh = CONFIG.build((C,), conditions).double()
    assert fresh(x, label, Cond(tokens=tokens, mask=mask)).abs().max() == 0
    net = stirred(fresh)
    before = net(x, label, Cond(tokens=tokens, mask=mask))
    assert close(net(x, label, Cond(tokens=tokens[:, :2])), before, 1e-9)
    for i, seen in enumerate((True, True, False)):
        other = tokens.clone()
        other[:, i] += 1
        far = (net(x, label, Cond(tokens=other, mask=mask)) - before).abs().amax(1)
        assert bool((far > 1e-4).all()) if seen else bool((far == 0).all())


def test_a_text_is_attended_to_besides_being_pooled():
    """Though what modulates is kept as it was, another text makes another vector."""
    net, (x, label) = built(Conditions(tokens=6)), batch()
    one, other = (Cond(tokens=randn(4, 3, 6, seed=seed)) for seed in (2, 3))
    told, changed = (net.conditioning(label, cond) for cond in (one, other))
    kept = replace(changed, e=told.e)
    assert close(net.body(x, told), net(x, label, one))
    assert (net.body(x, kept) - net.body(x, told)).abs().amax(1).min() > 1e-4
    assert (net.body(x, replace(told, e=changed.e)) - net.body(x, told)).abs().amax(1).min() > 1e-4


def test_words_that_it_reads_itself():
    net, (x, label) = built(Conditions(tokens=8, reader=Reader(words=20, length=4, width=8, depth=1, heads=2))), batch()
    words, mask = torch.tensor([[3, 5, 0, 0]] * 4), torch.tensor([[True, True, False, False]] * 4)
    before = net(x, label, Cond(words=words, mask=mask))
    assert (net(x, label, Cond(words=words + 1, mask=mask)) - before).abs().amax(1).min() > 1e-4
    hidden = words + torch.tensor([0, 0, 7, 7])
    assert close(net(x, label, Cond(words=hidden, mask=mask)), before)


def test_a_vector_and_a_text_are_hidden_apart():
    net, (x, label) = built(Conditions(tokens=6, vector=4)), batch()
    one = Cond(vector=randn(4, 4, seed=2), tokens=randn(4, 3, 6, seed=3))
    other = replace(one, vector=randn(4, 4, seed=4))
    assert (net(x, label, one) - net(x, label, other)).abs().amax(1).min() > 1e-4
    hidden = net(x, label, one.without(4, "vector"))
    assert torch.equal(hidden, net(x, label, other.without(4, "vector")))
    assert (hidden - net(x, label, one.null(4))).abs().amax(1).min() > 1e-4
    assert close(hidden, net(x, label, replace(one, vector=None)))


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"width": 0}, "width of net 'transformer' must be at least 1, given 0"),
        ({"width": 18}, "width of net 'transformer' must be a multiple of 4 and of heads=2, given 18"),
        ({"heads": 3}, "width of net 'transformer' must be a multiple of 4 and of heads=3, given 16"),
        ({"heads": 0}, "heads of net 'transformer' must be at least 1, given 0"),
        ({"depth": 0}, "depth of net 'transformer' must be at least 1, given 0"),
        ({"parts": 0}, "parts of net 'transformer' must be at least 1, given 0"),
    ],
    ids=str,
)
def test_settings_that_no_network_has(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(CONFIG, **settings)


def test_pictures_are_for_other_networks():
    with pytest.raises(ValueError, match=r"net 'transformer' has no use for examples of shape \(3, 8, 8\)"):
        CONFIG.build((3, 8, 8))
