"""The operations that training time goes into, each with one plain definition and faster ways to compute it.

| operation | on the CPU | where |
|---|---|---|
| `linear` | oneDNN for all three products of float32 | AVX-512 on a processor that is not Intel's |
| | the same where `torch.compile` would call MKL (`compiled`) | as above |
| | the bias inside the product, bfloat16 | AVX-512 BF16 |
| `pointwise` | a product for each example as it lies, bfloat16 | AVX-512 BF16 |
| `attention` | products and softmax with a backward pass of its own, bfloat16 | AVX-512 BF16 |
| | oneDNN's products head by head, float32, 512 by 512 weights or more | as for `linear` |
| `group_norm` | scale, shift and SiLU inside, the norm not kept | everywhere |
| `layer_norm` | the norm not kept, large examples one at a time in their cache, float32 | everywhere |
| `convolved_up` | a transposed convolution of less than half the multiplications | everywhere, on every device |

Everything else, and whatever runs on another device, in float64, under `torch.func` or with derivatives of
forward mode, is computed by the definitions (`reverie.nets.kernels.definitions`), and so is all inside `plain()`.
Compiled code is made of the definitions too, but for `linear`, `convolved_up`, and attention in bfloat16, which is
spelt out.
Results differ by rounding alone. Each way is chosen by a rule (`reverie.nets.kernels.choice`).
On other devices PyTorch's own fused kernels are called: flash attention among them.

Letters in shapes: B batch, C channels, L tokens, E width, `...` axes of space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.nets.kernels import attending, compiled, definitions, doubling, norms, products
from reverie.nets.kernels.choice import computed, eager, plain

__all__ = ["attention", "convolved_up", "group_norm", "layer_norm", "linear", "plain", "pointwise"]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias, (..., E) -> (..., E')."""
    if eager(x, weight, bias):
        dtype = computed(x, weight, bias)
        if products.suits(dtype, x, weight):
            made: Tensor = products.Linear.apply(
                x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
            )
            return made
    if compiled.suits(x, weight, bias):
        return compiled.linear(x, weight, bias)
    return definitions.linear(x, weight, bias)


def pointwise(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """weight h + bias at every place, a convolution with a kernel of 1: (B, C, ...), (C', C), (C',) -> (B, C', ...)."""
    if eager(h, weight, bias):
        dtype = computed(h, weight, bias)
        if products.suits_pointwise(dtype, h, weight):
            bias = None if bias is None else bias.to(dtype)
            made: Tensor = products.Pointwise.apply(h.to(dtype), weight.to(dtype), bias)
            return made
    return definitions.pointwise(h, weight, bias)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(width)) v over (B, heads, L, head width) (Vaswani et al., 2017, equation 1).

    Args:
        q: (B, heads, L, head width).
        k: (B, heads, L', head width).
        v: as k.
        mask: (B, L') bool, True where a key may be looked at; zeros come out where an example has none.
    """
    if eager(q, k, v, mask):
        dtype = computed(q, k, v)
        if attending.suits(dtype, q, k):
            made: Tensor = attending.Attention.apply(q.to(dtype), k.to(dtype), v.to(dtype), mask)
            return made
        if attending.suits_by_head(dtype, q, k):
            long: Tensor = attending.AttentionByHead.apply(q.to(dtype), k.to(dtype), v.to(dtype), mask)
            return long
    if torch.compiler.is_compiling() and q.device.type == "cpu" and computed(q, k, v) == torch.bfloat16:
        return definitions.attention_formula(q, k, v, mask)  # the fused kernel's backward pass is several times slower
    return definitions.attention(q, k, v, mask)


def group_norm(
    h: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float = 1e-5,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
    silu: bool = False,
) -> Tensor:
    """SiLU(GN(h) (1 + scale) + shift), each of the three steps only if it is asked for.

    Args:
        h: (B, C, ...).
        groups: of channels, each normalised alone (Wu & He, 2018).
        weight: (C,), or None.
        bias: (C,), or None.
        eps: added to the variance.
        scale: (B, C), or None.
        shift: (B, C), given if `scale` is.
        silu: whether the result goes through a SiLU.
    """
    if eager(h, weight, bias, scale, shift) and norms.suits_group_norm(h, weight, bias, scale, shift):
        return norms.modulated_group_norm(h, groups, weight, bias, eps, scale, shift, silu)
    return definitions.group_norm(h, groups, weight, bias, eps, scale, shift, silu)


def layer_norm(h: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    """LN(h) (1 + scale) + shift for h (B, L, E) and the others (B, E) (Peebles & Xie, 2023)."""
    if eager(h, scale, shift) and norms.suits_layer_norm(h, scale, shift):
        made: Tensor = norms.LayerNorm.apply(h, 1 + scale.float(), shift.float(), eps)
        return made
    return definitions.layer_norm(h, scale, shift, eps)


def convolved_up(h: Tensor, weight: Tensor, bias: Tensor | None, factors: tuple[int, ...]) -> Tensor:
    """A convolution with a kernel of 3, zeros around, of what repeating each value gives: (B, C, ...) -> (B, C', ...).

    Args:
        h: (B, C, ...).
        weight: (C', C, 3, ...).
        bias: (C',), or None.
        factors: 2 for each axis that is doubled, 1 for the others.
    """
    if doubling.suits():
        return doubling.convolved_up(h, weight, bias, factors)
    return definitions.convolved_up(h, weight, bias, factors)
