"""Norms on the CPU, with what modulates them in the same pass, and nothing kept that the input can give again.

Letters in shapes: B batch, C channels, G groups, P places of one example, L tokens, E width, `...` axes of space.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.nets.kernels import definitions
from reverie.nets.kernels.choice import differentiable

aten = torch.ops.aten
NARROW = (torch.float32, torch.bfloat16)
LONG = 2**16
"""Numbers of one example (L E) from which on norms of one example at a time, in its cache, are worth their calls."""


def suits_group_norm(h: Tensor, *others: Tensor | None) -> bool:
    """Whether `GroupNorm` is the faster way: channels first, in float32 or bfloat16."""
    return h.dtype in NARROW and h.is_contiguous() and all(t is None or t.dtype in NARROW for t in others)


def modulated_group_norm(
    h: Tensor,
    groups: int,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    scale: Tensor | None,
    shift: Tensor | None,
    silu: bool,
) -> Tensor:
    """As `reverie.nets.kernels.group_norm`.

    With a scale and a shift of each example, the channels of all examples are taken for those of one:
    there are B G groups then, and PyTorch's weight and bias (B C,) are

        weight (1 + scale)   and   bias (1 + scale) + shift.
    """
    if scale is None or shift is None:
        made: Tensor = GroupNorm.apply(h, weight, bias, groups, eps, silu)
        return made
    size = 1 + scale.float()
    weight = (size if weight is None else weight.float() * size).flatten()
    bias = (shift.float() if bias is None else torch.addcmul(shift.float(), bias.float(), size)).flatten()
    made = GroupNorm.apply(h.reshape(1, -1, *h.shape[2:]), weight, bias, len(h) * groups, eps, silu)
    return made.view(h.shape)


class GroupNorm(torch.autograd.Function):
    """SiLU(GN(h)) for (B, C, ...), a weight and a bias (C,) or None, and whether there is a SiLU.

    The backward pass computes GN(h) again rather than keep it: a read and a write more, a tensor less.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        h: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        groups: int,
        eps: float,
        silu: bool,
    ) -> Tensor:
        made, mean, rstd = torch.native_group_norm(h, weight, bias, *_sizes(h), groups, eps)
        ctx.save_for_backward(h, weight, bias, mean, rstd)
        ctx.groups, ctx.eps, ctx.silu = groups, eps, silu
        return F.silu(made, inplace=True) if silu else made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, weight, bias, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():

            def formula(h: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
                return definitions.group_norm(h, ctx.groups, weight, bias, ctx.eps, silu=ctx.silu)

            return *differentiable(formula, (h, weight, bias), ctx.needs_input_grad[:3], grad), None, None, None
        grad = grad.contiguous()
        if ctx.silu:
            y = torch.native_group_norm(h, weight, bias, *_sizes(h), ctx.groups, ctx.eps)[0]
            grad = aten.silu_backward.grad_input(grad, y, grad_input=y)
        asked = [need and t is not None for need, t in zip(ctx.needs_input_grad, (h, weight, bias), strict=False)]
        made = torch.ops.aten.native_group_norm_backward(grad, h, mean, rstd, weight, *_sizes(h), ctx.groups, asked)
        return *(t if want else None for t, want in zip(made, asked, strict=True)), None, None, None


def _sizes(h: Tensor) -> tuple[int, int, int]:
    """B, C and P."""
    return h.shape[0], h.shape[1], h[0, 0].numel()


def suits_layer_norm(h: Tensor, scale: Tensor, shift: Tensor) -> bool:
    """Whether `LayerNorm` is the better way: in float32."""
    narrow = scale.dtype in NARROW and shift.dtype in NARROW
    return narrow and h.dtype == torch.float32 and h.ndim == 3 and h.is_contiguous() and scale.ndim == shift.ndim == 2


class LayerNorm(torch.autograd.Function):
    """LN(h) weight + bias for (B, L, E) and two of (B, E), all float32.

    Large examples are computed one after the other, each in the cache, by PyTorch's norm with a weight and a
    bias; small ones, of which each would cost a call, together. LN(h) is not kept but computed again.
    """

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:  # noqa: ANN401
        ctx.eps = eps
        if h[0].numel() < LONG:
            out, mean, rstd = torch.native_layer_norm(h, h.shape[2:], None, None, eps)
            torch.addcmul(bias[:, None], out, weight[:, None], out=out)
        else:
            out, mean, rstd = torch.empty_like(h), h.new_empty(*h.shape[:2], 1), h.new_empty(*h.shape[:2], 1)
            for x, w, b, y, m, r in zip(*(t.unbind() for t in (h, weight, bias, out, mean, rstd)), strict=True):
                aten.native_layer_norm.out(x, h.shape[2:], w, b, eps, out0=y, out1=m, out2=r)
        ctx.save_for_backward(h, weight, bias, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, weight, bias, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():

            def formula(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                return definitions.layer_norm(h, weight - 1, bias, ctx.eps)

            return *differentiable(formula, (h, weight, bias), ctx.needs_input_grad[:3], grad), None
        by = _together if h[0].numel() < LONG else _one_by_one
        return *by(grad.contiguous(), h, weight, bias, mean, rstd, ctx.eps), None


def _together(
    grad: Tensor, h: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `LayerNorm`, all examples at once."""
    y = torch.native_layer_norm(h, h.shape[2:], None, None, eps)[0]
    to_weight = torch.mul(grad, y, out=y).sum(1)
    inside = torch.mul(grad, weight[:, None], out=y)
    to_h = aten.native_layer_norm_backward(inside, h, h.shape[2:], mean, rstd, None, None, [True, False, False])[0]
    return to_h, to_weight, grad.sum(1)


def _one_by_one(
    grad: Tensor, h: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `LayerNorm`, one example after the other."""
    made = torch.empty_like(h), torch.empty_like(weight), torch.empty_like(bias)
    inside = (grad, h, mean, rstd, weight, bias, *made)
    for g, x, m, r, w, b, to_x, to_w, to_b in zip(*(t.unbind() for t in inside), strict=True):
        aten.native_layer_norm_backward.out(g, x, h.shape[2:], m, r, w, b, [True] * 3, out0=to_x, out1=to_w, out2=to_b)
    return made
