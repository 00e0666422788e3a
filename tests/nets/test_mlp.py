"""The MLP: its block, its start, and what it is good for."""

import pytest
import torch
import torch.nn.functional as F
from helpers import randn

from reverie.conditioning import Cond, Conditions
from reverie.nets import MLPConfig
from reverie.nets.mlp import MLPBlock


def test_a_block_is_its_formula():
    torch.manual_seed(0)
    block, h, e = MLPBlock(6).double(), randn(3, 6), randn(3, 6, seed=1)
    torch.nn.init.normal_(block.outer.weight)
    scale, shift = (e @ block.modulation.weight.T + block.modulation.bias).chunk(2, dim=1)
    normal = (h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    inner = F.silu((normal * (1 + scale) + shift) @ block.inner.weight.T + block.inner.bias)
    torch.testing.assert_close(block(h, e), h + inner @ block.outer.weight.T + block.outer.bias)


def test_a_block_starts_as_the_identity():
    torch.manual_seed(0)
    h = torch.randn(2, 16)
    assert torch.equal(MLPBlock(16)(h, torch.randn(2, 16)), h)


@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (3, 3, 3), (1, 2, 4, 4), (1, 2, 2, 2, 2)])
def test_it_knows_nothing_of_neighbours(shape):
    """The same numbers in another shape of as many, channels first, go through the same weights."""
    torch.manual_seed(0)
    config, conditions = MLPConfig(width=16, depth=1), Conditions(vector=3)
    net, flat = config.build(shape, conditions), config.build((torch.Size(shape).numel(),), conditions)
    torch.nn.init.normal_(net.out.weight)
    flat.load_state_dict(net.state_dict())
    x, label, cond = torch.randn(2, *shape), torch.tensor([1.0, 8.0]), Cond(vector=torch.randn(2, 3))
    torch.testing.assert_close(net(x, label, cond).flatten(1), flat(x.flatten(1), label, cond))


def test_half_the_hidden_units_are_dropped_and_the_others_doubled():
    torch.manual_seed(0)
    block = MLPBlock(400, dropout=0.5)
    torch.nn.init.eye_(block.outer.weight)
    torch.nn.init.zeros_(block.modulation.weight)
    h, e = torch.randn(8, 400), torch.zeros(8, 400)
    kept = (block.eval()(h, e) - h) / (block.train()(h, e) - h)
    assert (kept.isinf() | ((kept - 0.5).abs() < 1e-3)).all()
    assert kept.isinf().float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_another_size_than_it_was_built_for_is_refused():
    net = MLPConfig(width=8, depth=1).build((2, 3, 4))
    with pytest.raises(ValueError, match=r"built for examples of \(2, 3, 4\) alone, given \(2, 4, 3\)"):
        net(torch.zeros(5, 2, 4, 3), torch.zeros(5))  # as many numbers


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"width": 0}, "width"), ({"depth": 0}, "depth"), ({"width": 33}, "width of net 'mlp' must be even, given 33")],
)
def test_settings_that_no_network_has_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        MLPConfig(**settings)
