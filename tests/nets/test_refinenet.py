"""NCSN's network: its norm, its blocks and its stages are those of the paper."""

import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, randn, stirred

from reverie.config import from_data
from reverie.nets import NetConfig, RefineNetConfig, parameters
from reverie.nets.refinenet import DilatedBlock, InstanceNormPlus, Refine

every_size = pytest.mark.parametrize("size", [(8,), (4, 6), (2, 4, 6)])


@every_size
def test_the_norm_is_its_formula(size):
    torch.manual_seed(0)
    norm, h, e = stirred(InstanceNormPlus(5, 3)), 2 + 3 * randn(2, 5, *size), randn(2, 3, seed=1)
    gamma, alpha, beta = (e @ norm.told.weight.T + norm.told.bias).reshape(2, 3, 5).unbind(1)
    flat = h.reshape(2, 5, -1)
    mu, sigma = flat.mean(2), (flat.var(2, correction=0) + 1e-5).sqrt()
    m, v = mu.mean(1, keepdim=True), (mu.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    expected = (1 + gamma)[..., None] * (flat - mu[..., None]) / sigma[..., None]
    expected = expected + (beta + (1 + alpha) * (mu - m) / v)[..., None]
    torch.testing.assert_close(norm(h, e), expected.reshape(h.shape))


def test_the_norm_keeps_what_an_instance_norm_loses():
    """Constants in channels: nothing is left by the instance norm, their differences by this one."""
    norm, e = InstanceNormPlus(4, 3).double(), torch.zeros(1, 3, dtype=DOUBLE)
    torch.nn.init.zeros_(norm.told.bias)
    h = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=DOUBLE).reshape(1, 4, 1, 1).expand(1, 4, 5, 5)
    levels = norm(h, e)[0, :, 0, 0]
    torch.testing.assert_close(levels, (h[0, :, 0, 0] - 3) / 3.5**0.5, rtol=1e-5, atol=1e-5)


def test_the_norm_does_not_lose_a_large_mean_in_half_precision():
    norm, e = InstanceNormPlus(4, 3), torch.zeros(2, 3)
    h = (100 + randn(2, 4, 16, 16)).bfloat16()
    exact, rough = norm(h.float(), e), norm(h, e)
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).abs().max() < 0.01 * exact.abs().max()


@every_size
@pytest.mark.parametrize(("dilation", "halve"), [(1, False), (3, False), (1, True)])
def test_a_block_is_its_formula(size, dilation, halve):
    torch.manual_seed(0)
    rank = len(size)
    block, h, e = stirred(DilatedBlock(rank, 3, 4, 5, dilation, halve)), randn(2, 3, *size), randn(2, 5, seed=1)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]

    def dilated(layer, h):
        return convolve(F.pad(h, (dilation,) * 2 * rank), layer.weight, layer.bias, dilation=dilation)

    inner = dilated(block.conv_in, F.elu(block.norm_in(h, e)))
    out = block.skip(h) + dilated(block.conv_out, F.elu(block.norm_out(inner, e)))
    if halve:
        for axis in range(2, 2 + rank):
            out = out.unflatten(axis, (-1, 2)).mean(axis + 1)
    torch.testing.assert_close(block(h, e), out)


@every_size
def test_refining_is_units_fusion_and_pooling_in_a_chain(size):
    torch.manual_seed(0)
    rank = len(size)
    refine, e = stirred(Refine(rank, [3, 4], 2, 5, final=False)), randn(2, 5, seed=1)
    fine, coarse = randn(2, 3, *size, seed=2), randn(2, 4, *(n // 2 for n in size), seed=3)

    def unit(block, h):
        return h + block.conv_out(F.elu(block.norm_out(block.conv_in(F.elu(block.norm_in(h, e))), e)))

    a, b = fine, coarse
    for one, two in zip(refine.adapt[0].units, refine.adapt[1].units, strict=True):
        a, b = unit(one, a), unit(two, b)
    raised = F.interpolate(refine.fuse[1](b), scale_factor=2, mode=("linear", "bilinear", "trilinear")[rank - 1])
    h = path = F.elu(refine.fuse[0](a) + raised)
    for norm, layer in zip(refine.pool_norms, refine.pool_convs, strict=True):
        path = norm(path, e)
        for axis in range(2, 2 + rank):  # the mean over 5, one axis after the other
            n, front = path.shape[axis], [0, 0] * (rank + 1 - axis) + [2, 2]
            wide = F.pad(path, front)
            path = sum(wide.narrow(axis, k, n) for k in range(5)) / 5
        path = layer(path)
        h = h + path
    torch.testing.assert_close(refine(e, fine, coarse), unit(refine.leave.units[0], h))


def test_the_stages_are_those_of_the_paper():
    """Full, halved, then dilated by 2 and by 4 at half resolution; two blocks each; 128 and 256 channels."""
    with torch.device("meta"):
        net = RefineNetConfig().build((3, 32, 32))
    assert [[b.conv_in.dilation[0] for b in s] for s in net.down] == [[1, 1], [1, 1], [2, 2], [4, 4]]
    assert [[b.halve for b in s] for s in net.down] == [[False] * 2, [True, False], [False] * 2, [False] * 2]
    assert [s[-1].conv_out.out_channels for s in net.down] == [128, 256, 256, 256]
    assert [len(r.adapt) for r in net.up] == [2, 2, 2, 1]
    assert [len(r.leave.units) for r in net.up] == [3, 1, 1, 1]
    weights = sum(p.numel() for name, p in net.named_parameters() if "told" not in name and "conditioning" not in name)
    assert 28e6 < weights < 30e6  # 29 million beside the table of noise levels
    assert from_data(NetConfig, {"kind": "ncsn", "width": 8}, "net") == RefineNetConfig(width=8)


def test_norms_start_near_the_plain_one():
    """Gamma and alpha 1 but for normal weights of deviation 0.02, beta 0; and an output of 0."""
    torch.manual_seed(0)
    net = RefineNetConfig(width=32, blocks=1, embedding=64).build((3, 8, 8))
    norms = [m for m in net.modules() if isinstance(m, InstanceNormPlus)]
    gamma, alpha, beta = (torch.cat(w) for w in zip(*(norm.told.weight.chunk(3) for norm in norms), strict=True))
    for weight in (gamma, alpha):
        z, n = weight / 0.02, weight.numel()
        assert z.mean().item() == pytest.approx(0, abs=4 / n**0.5)
        assert z.square().mean().item() == pytest.approx(1, abs=4 * (2 / n) ** 0.5)
        assert z.pow(4).mean().item() == pytest.approx(3, abs=4 * (96 / n) ** 0.5)
    assert not any(t.any() for t in (beta, *(norm.told.bias for norm in norms)))
    assert not net(torch.randn(2, 3, 8, 8), torch.tensor([1.0, 900.0])).any()


@pytest.mark.parametrize(("halvings", "dilations"), [(0, ()), (0, (2,)), (2, ()), (1, (2, 4, 8))])
def test_any_number_of_stages_works(halvings, dilations):
    torch.manual_seed(0)
    net = stirred(
        RefineNetConfig(width=4, blocks=1, embedding=8, halvings=halvings, dilations=dilations).build((1, 7, 6))
    )
    x, label = randn(1, 1, 7, 6), torch.tensor([2.0])
    out = net(x, label)
    assert out.shape == x.shape
    assert len(net.down) == len(net.up) == 1 + halvings + len(dilations)
    assert (net(x, label + 1) - out).abs().max() > 1e-4
    assert parameters(net) > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 0}, "width of net 'refinenet' must be at least 1, given 0"),
        ({"blocks": 0}, "blocks"),
        ({"embedding": 5}, "embedding .* even .* given 5"),
        ({"halvings": -1}, "halvings of net 'refinenet' must be a number of stages or 0, given -1"),
        ({"dilations": (2, 0)}, "dilations of net 'refinenet' must be at least 1, given 0"),
    ],
)
def test_settings_that_no_network_has_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        RefineNetConfig(**settings)
