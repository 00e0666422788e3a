"""What each operation computes, in plain PyTorch: the reference for every faster way, and what runs where none applies.

Letters in shapes: B batch, C channels, L tokens, E width, `...` axes of space.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias, (..., E) -> (..., E')."""
    return F.linear(x, weight, bias)


def pointwise(h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `reverie.nets.kernels.pointwise`."""
    kernel = weight[(..., *(None,) * (h.ndim - 2))]
    return CONVOLVE[h.ndim - 2](h, kernel, bias)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """As `reverie.nets.kernels.attention`.

    The fused kernels have no forward-mode derivative and no rule for `vmap`: there the formula is spelt out.
    """
    transformed = torch._C._are_functorch_transforms_active()
    if not transformed and all(forward_ad.unpack_dual(part).tangent is None for part in (q, k, v)):
        return F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])
    return attention_formula(q, k, v, mask)


def attention_formula(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """The formula by itself, which has derivatives of every order in either mode."""
    fit = q @ k.mT * q.shape[-1] ** -0.5
    if mask is None:
        return fit.softmax(dim=-1) @ v
    seen = mask[:, None, None]  # the least number, not -inf, so that a row without any has no 0 / 0
    return (fit.masked_fill(~seen, torch.finfo(fit.dtype).min).softmax(dim=-1) * seen) @ v


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
    """As `reverie.nets.kernels.group_norm`."""
    made = F.group_norm(h, groups, weight, bias, eps)
    if scale is not None and shift is not None:
        to = (*scale.shape, *(1,) * (h.ndim - 2))
        made = (made * (1 + scale.reshape(to)) + shift.reshape(to)).to(made.dtype)
    return F.silu(made) if silu else made


def layer_norm(h: Tensor, scale: Tensor, shift: Tensor, eps: float = 1e-6) -> Tensor:
    """As `reverie.nets.kernels.layer_norm`."""
    return F.layer_norm(h, h.shape[-1:], eps=eps) * (1 + scale[:, None]) + shift[:, None]


def convolved_up(h: Tensor, weight: Tensor, bias: Tensor | None, factors: tuple[int, ...]) -> Tensor:
    """As `reverie.nets.kernels.convolved_up`."""
    for axis, factor in enumerate(factors, start=2):
        h = h.repeat_interleave(factor, axis) if factor > 1 else h
    return CONVOLVE[len(factors)](h, weight, bias, padding=1)
