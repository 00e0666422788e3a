"""Attention on the CPU with a backward pass of its own.

Letters in shapes: B batch, L queries, L' keys, D width of a head, n heads of all examples together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reverie.nets.kernels.choice import bf16_is_native, differentiable, mkl_is_slow
from reverie.nets.kernels.definitions import attention_formula
from reverie.nets.kernels.products import product

MOST = 2**24
"""Weights of one head beyond which memory decides for PyTorch's fused kernel, which never holds them at once."""
AT_ONCE = 2**20
"""Weights that are computed at once where they are computed again in the backward pass."""


LONG = 2**18
"""Weights of one head from which on a call of oneDNN for each product of each head is worth it."""


def suits(dtype: torch.dtype | None, q: Tensor, k: Tensor) -> bool:
    """Whether `Attention` is the faster way: in bfloat16, of which the fused kernel makes float32 and back."""
    return dtype == torch.bfloat16 and bf16_is_native() and q.shape[-2] * k.shape[-2] <= MOST


def suits_by_head(dtype: torch.dtype | None, q: Tensor, k: Tensor) -> bool:
    """Whether `AttentionByHead` is the faster way: in float32, for long sequences, where MKL is slow."""
    return dtype == torch.float32 and mkl_is_slow() and LONG <= q.shape[-2] * k.shape[-2] <= MOST


class Attention(torch.autograd.Function):
    """softmax(q k^T / sqrt(D)) v for (B, heads, L, D), (B, heads, L', D) twice and a mask (B, L') or None.

    The weights are kept for the backward pass where they take no more memory than queries, keys, values
    and result do, and computed again, some heads at a time, where they are more.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ANN401
        keeps = k.shape[2] <= 4 * k.shape[3]
        flat, hidden = [t.flatten(0, 1) for t in (q, k, v)], _hidden(mask, q.shape[1])
        out = _empty(q, v)
        if keeps:
            p = _weights(flat[0], flat[1], hidden)
            out.copy_(torch.bmm(p, flat[2]).view(out.shape))
        else:
            p, made = None, q.new_empty(*flat[0].shape[:2], v.shape[3])
            for part in _parts(flat[0], flat[1]):
                weights = _weights(flat[0][part], flat[1][part], None if hidden is None else hidden[part])
                torch.bmm(weights, flat[2][part], out=made[part])
            out.copy_(made.view(out.shape))
        ctx.save_for_backward(q, k, v, mask, p)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, k, v, mask, p = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(differentiable(attention_formula, (q, k, v, mask), ctx.needs_input_grad, grad))
        flat, hidden = [t.flatten(0, 1) for t in (q, k, v, grad)], _hidden(mask, q.shape[1])
        made = [torch.empty_like(t, memory_format=torch.contiguous_format) for t in flat[:3]]
        for part in _parts(flat[0], flat[1]) if p is None else [slice(None)]:
            inside = [t[part] for t in flat]
            weights = _weights(inside[0], inside[1], None if hidden is None else hidden[part]) if p is None else p
            _backward(inside, weights, [t[part] for t in made])
        dq, dk, dv = (t.view(like.shape) for t, like in zip(made, (q, k, v), strict=True))
        return dq, dk, dv, None


def _empty(q: Tensor, v: Tensor) -> Tensor:
    """(B, heads, L, D), with the heads of a query side by side as the next layer reads them, and a view of nothing."""
    batch, heads, length, width = *q.shape[:3], v.shape[3]
    strides = (length * heads * width, width, heads * width, 1)
    return q.new_empty_strided((batch, heads, length, width), strides)


def _hidden(mask: Tensor | None, heads: int) -> Tensor | None:
    """(n, 1, L'), True where a key may not be looked at."""
    return None if mask is None else (~mask).repeat_interleave(heads, dim=0)[:, None]


def _parts(q: Tensor, k: Tensor) -> list[slice]:
    """The heads, some at a time."""
    count = max(1, AT_ONCE // (q.shape[1] * k.shape[1]))
    return [slice(i, i + count) for i in range(0, len(q), count)]


def _weights(q: Tensor, k: Tensor, hidden: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(D)), (n, L, L'); rows of 0 where all keys are hidden."""
    fit = torch.baddbmm(q.new_empty(1, 1, 1), q, k.mT, beta=0, alpha=q.shape[-1] ** -0.5)
    if hidden is None:
        return torch.softmax(fit, dim=-1, out=fit)
    fit.masked_fill_(hidden, torch.finfo(fit.dtype).min)
    return torch.softmax(fit, dim=-1, out=fit).masked_fill_(hidden, 0.0)


def _backward(inside: list[Tensor], p: Tensor, to: list[Tensor]) -> None:
    """Gradients of some heads.

    Args:
        inside: their queries, keys, values, and the gradient of their result.
        p: (n, L, L'), their weights.
        to: takes the gradients of the first three.
    """
    (q, k, v, grad), (to_q, to_k, to_v) = inside, to
    size = q.shape[-1] ** -0.5
    torch.bmm(p.mT, grad, out=to_v)
    to_fit = torch._softmax_backward_data(torch.bmm(grad, v.mT), p, -1, p.dtype)
    torch.baddbmm(to_q, to_fit, k, beta=0, alpha=size, out=to_q)
    torch.baddbmm(to_k, to_fit.mT, q, beta=0, alpha=size, out=to_k)


class AttentionByHead(torch.autograd.Function):
    """As `Attention`, head by head with oneDNN's products; only queries, keys and values are kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ANN401
        flat, hidden = [t.flatten(0, 1) for t in (q, k, v)], _hidden(mask, q.shape[1])
        out = _empty(q, v)
        heads = [out[i, j] for i in range(len(q)) for j in range(q.shape[1])]
        for i, (a, b, c, to) in enumerate(zip(*(t.unbind() for t in flat), heads, strict=True)):
            to.copy_(product(_weights_of_one(a, b, None if hidden is None else hidden[i]), c.mT))
        ctx.save_for_backward(q, k, v, mask)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        q, k, v, mask = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(differentiable(attention_formula, (q, k, v, mask), ctx.needs_input_grad, grad))
        flat, hidden = [t.flatten(0, 1) for t in (q, k, v, grad)], _hidden(mask, q.shape[1])
        made = [torch.empty_like(t.mT, memory_format=torch.contiguous_format) for t in flat[:3]]
        inside = zip(*(t.unbind() for t in (*flat, *made)), strict=True)
        for i, (a, b, c, g, to_q, to_k, to_v) in enumerate(inside):
            p = _weights_of_one(a, b, None if hidden is None else hidden[i])
            to_v.copy_(product(g.mT, p.mT))
            to_fit = torch._softmax_backward_data(product(g, c), p, -1, p.dtype)
            to_q.copy_(product(b.mT, to_fit))
            to_k.copy_(product(a.mT, to_fit.mT))
        size = q.shape[-1] ** -0.5
        dq, dk, dv = (t.mT.unflatten(0, q.shape[:2]) for t in made)
        return dq * size, dk * size, dv, None


def _weights_of_one(q: Tensor, k: Tensor, hidden: Tensor | None) -> Tensor:
    """As `_weights` for one head, (L, D) and (L', D) -> (L, L')."""
    fit = product(q * q.shape[-1] ** -0.5, k)
    if hidden is None:
        return torch.softmax(fit, dim=-1, out=fit)
    fit.masked_fill_(hidden, torch.finfo(fit.dtype).min)
    return torch.softmax(fit, dim=-1, out=fit).masked_fill_(hidden, 0.0)
