"""The operations that training time goes into, each with one plain definition and faster ways to compute it.

Letters in shapes: B batch, C channels, L tokens, E width, `...` axes of space.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias, (..., E) -> (..., E')."""
    return F.linear(x, weight, bias)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q k^T / sqrt(width)) v over (B, heads, L, head width) (Vaswani et al., 2017, equation 1).

    Args:
        q: (B, heads, L, head width).
        k: (B, heads, L', head width).
        v: as k.
        mask: (B, L') bool, True where a key may be looked at; at least one of each example.

    The fused kernels have no forward-mode derivative; under `torch.func.jvp` the formula is spelt out.
    """
    seen = None if mask is None else mask[:, None, None]
    if all(forward_ad.unpack_dual(part).tangent is None for part in (q, k, v)):
        return F.scaled_dot_product_attention(q, k, v, seen)
    fit = q @ k.mT * q.shape[-1] ** -0.5
    return (fit if seen is None else fit.masked_fill(~seen, float("-inf"))).softmax(dim=-1) @ v


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
    h = F.group_norm(h, groups, weight, bias, eps)
    if scale is not None and shift is not None:
        to = (*scale.shape, *(1,) * (h.ndim - 2))
        h = h * (1 + scale.reshape(to)) + shift.reshape(to)
    return F.silu(h) if silu else h


def layer_norm(h: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    """LN(h) (1 + scale) + shift for h (B, L, E) and the others (B, E) (Peebles & Xie, 2023)."""
    return F.layer_norm(h, h.shape[-1:], eps=eps) * (1 + scale[:, None]) + shift[:, None]
