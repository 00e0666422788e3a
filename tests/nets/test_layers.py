"""Layers and the functions behind them are their formulae, on one, two and three axes."""

import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, randn

from reverie.nets.attention import CrossAttention, SelfAttention
from reverie.nets.kernels import attention, group_norm, layer_norm, linear
from reverie.nets.layers import GroupNorm, Linear, conv, divided, zeroed

every_rank = pytest.mark.parametrize("size", [(7,), (4, 5), (3, 2, 4)])


def double(layer):
    torch.manual_seed(0)
    return layer.double()


# -------------------------------------------------------------------------------------- attention


def test_attention_is_its_formula_with_and_without_forward_mode():
    q, k, v = randn(3, 2, 2, 5, 4)
    expected = torch.softmax(torch.einsum("bhie,bhje->bhij", q, k) / 2.0, dim=-1) @ v
    torch.testing.assert_close(attention(q, k, v), expected)
    out, tangent = torch.func.jvp(lambda q: attention(q, k, v), (q,), (torch.ones_like(q),))
    torch.testing.assert_close(out, expected)
    ahead, behind = (attention(q + h, k, v) for h in (1e-6, -1e-6))
    torch.testing.assert_close(tangent, (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("forward_mode", [False, True])
def test_attention_to_fewer_is_attention_without_the_others(forward_mode):
    q, (k, v) = randn(2, 2, 3, 4), randn(2, 2, 2, 5, 4, seed=1)
    mask = torch.tensor([[True, False, True, True, False], [False, True, False, False, False]])

    def f(q):
        return attention(q, k, v, mask)

    out = torch.func.jvp(f, (q,), (q,))[0] if forward_mode else f(q)
    for i in range(2):
        few = attention(q[i : i + 1], k[i : i + 1, :, mask[i]], v[i : i + 1, :, mask[i]])
        torch.testing.assert_close(out[i : i + 1], few, rtol=0, atol=1e-14)


def test_attention_commutes_with_permutations():
    layer, h, order = double(SelfAttention(12, 3)), randn(2, 7, 12), torch.tensor([3, 0, 6, 1, 5, 2, 4])
    torch.testing.assert_close(layer(h)[:, order], layer(h[:, order]))


def test_attention_to_others_does_not_depend_on_their_order():
    layer, h, tokens = double(CrossAttention(12, 3, context=5)), randn(2, 7, 12), randn(2, 4, 5, seed=1)
    mask, order = torch.tensor([[True, True, False, True]] * 2), torch.tensor([2, 3, 1, 0])
    out = layer(h, tokens, mask)
    torch.testing.assert_close(layer(h, tokens[:, order], mask[:, order]), out)
    assert out.shape == h.shape
    spoilt = tokens.clone()
    spoilt[:, 2] = 100.0
    torch.testing.assert_close(layer(h, spoilt, mask), out, rtol=0, atol=1e-14)


def test_a_layer_of_attention_is_its_formula():
    """One head at a time, from the rows of its weights."""
    layer, h, tokens = double(CrossAttention(6, 2, context=5)), randn(1, 3, 6), randn(1, 4, 5, seed=1)
    q, (k, v) = layer.q(h)[0], layer.kv(tokens)[0].chunk(2, dim=-1)
    heads = [torch.softmax(q[:, s] @ k[:, s].T / 3**0.5, dim=-1) @ v[:, s] for s in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(layer(h, tokens)[0], layer.out(torch.cat(heads, dim=-1)))


# ------------------------------------------------------------------------------------------ norms


@pytest.mark.parametrize("channels", range(1, 200))
def test_groups_are_equal_and_wide_and_as_many_as_there_can_be(channels):
    n = divided(channels, 32, 4)
    assert channels % n == 0
    assert n == 1 or (n <= 32 and channels // n >= 4)
    assert all(channels % m for m in range(n + 1, min(32, channels // 4) + 1))


@every_rank
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("modulated", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_group_norm_is_its_formula(size, silu, modulated, affine):
    h, (scale, shift), (weight, bias) = 3 + 2 * randn(2, 6, *size), randn(2, 2, 6, seed=1), randn(2, 6, seed=2)
    parts = h.reshape(2, 3, -1)
    mean, var = parts.mean(2, keepdim=True), parts.var(2, correction=0, keepdim=True)
    expected = ((parts - mean) / (var + 1e-3).sqrt()).reshape(2, 6, -1)
    if affine:
        expected = expected * weight[:, None] + bias[:, None]
    if modulated:
        expected = expected * (1 + scale[:, :, None]) + shift[:, :, None]
    if silu:
        expected = expected / (1 + (-expected).exp())
    given = group_norm(
        h, 3, weight if affine else None, bias if affine else None, 1e-3,
        scale if modulated else None, shift if modulated else None, silu,
    )  # fmt: skip
    torch.testing.assert_close(given, expected.reshape(h.shape))


@every_rank
def test_a_layer_of_group_norm_passes_its_settings_on(size):
    layer, h, scale, shift = double(GroupNorm(2, 8, silu=True, eps=0.1)), randn(2, 8, *size), *randn(2, 2, 8, seed=1)
    torch.nn.init.normal_(layer.weight)
    expected = group_norm(h, 2, layer.weight, layer.bias, 0.1, scale, shift, silu=True)
    assert torch.equal(layer(h, scale, shift), expected)
    assert GroupNorm(2, 8, affine=False).weight is None


def test_layer_norm_is_its_formula():
    h, (scale, shift) = 1 + 2 * randn(2, 5, 6), randn(2, 2, 6, seed=1)
    normal = (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(layer_norm(h, scale, shift), normal * (1 + scale[:, None]) + shift[:, None])


# ------------------------------------------------------------------------------- linear, and conv


def test_linear_is_its_formula():
    layer, x = double(Linear(3, 4)), randn(2, 5, 3)
    torch.testing.assert_close(layer(x), torch.einsum("oi,bli->blo", layer.weight, x) + layer.bias)
    torch.testing.assert_close(linear(x, layer.weight, None), torch.einsum("oi,bli->blo", layer.weight, x))


@every_rank
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 3])
def test_a_convolution_keeps_sizes_and_is_centred(size, kernel, dilation):
    """With a kernel that is 1 in its middle it is the identity."""
    rank, h = len(size), randn(2, 3, *size)
    layer = conv(rank, 3, 3, kernel, bias=False, dilation=dilation).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[(..., *(kernel // 2,) * rank)] = torch.eye(3, dtype=DOUBLE)
    torch.testing.assert_close(layer(h), h)


def test_a_dilated_convolution_looks_as_far_as_it_says():
    layer, h = double(conv(1, 1, 1, 3, dilation=4)), randn(1, 1, 12)
    w = layer.weight[0, 0]
    far = F.pad(h, (4, 4))[0, 0]
    torch.testing.assert_close(layer(h)[0, 0], w[0] * far[:12] + w[1] * far[4:16] + w[2] * far[8:20] + layer.bias)


def test_zeroed_zeroes_the_layer_alone():
    layer = zeroed(torch.nn.Linear(3, 2))
    assert layer.weight.abs().max() == layer.bias.abs().max() == 0
    assert layer.weight.requires_grad
