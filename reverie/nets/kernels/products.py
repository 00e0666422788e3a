"""Linear maps by oneDNN, along the last axis or along the channels.

Letters in shapes: M rows, K their length, N that of the result; B batch, P places of one example.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reverie.nets.kernels import definitions
from reverie.nets.kernels.choice import bf16_is_native, differentiable, mkl_is_slow

aten = torch.ops.aten
FEWEST = 2**22
"""Products of fewer multiplications than this gain less than a call of a function in Python costs."""


def suits(dtype: torch.dtype | None, x: Tensor, weight: Tensor) -> bool:
    """Whether `Linear` is the faster way.

    In float32 where MKL is slow, for all three products. In bfloat16 PyTorch calls oneDNN by itself, but copies
    the bias over the whole output first, which the forward pass here leaves out.
    """
    large = x.numel() * weight.shape[0] >= FEWEST
    return large and (mkl_is_slow() if dtype == torch.float32 else dtype == torch.bfloat16 and bf16_is_native())


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b^T + bias by oneDNN, (M, K), (N, K) and (N,) -> (M, N)."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return made


def reduced(g: Tensor, x: Tensor) -> Tensor:
    """g^T x, (M, N) and (M, K) -> (N, K); the narrower goes first, for oneDNN copies the first of two transposed."""
    return product(g.mT, x.mT) if g.shape[1] <= x.shape[1] else product(x.mT, g.mT).mT


class Linear(torch.autograd.Function):
    """x weight^T + bias for (..., K), (N, K) and (N,) or None, all of one dtype."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight, bias)
        made = product(x.reshape(-1, x.shape[-1]), weight, bias)
        return aten._unsafe_view(made, (*x.shape[:-1], len(weight)))  # a view could not be written over in place

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(differentiable(definitions.linear, (x, weight, bias), ctx.needs_input_grad, grad))
        g, rows = grad.reshape(-1, grad.shape[-1]).contiguous(), x.reshape(-1, x.shape[-1])
        ours = grad.dtype == torch.float32
        to_x, to_weight, to_bias = ctx.needs_input_grad
        return (
            (product(g, weight.mT) if ours else g @ weight).view(x.shape) if to_x else None,
            (reduced(g, rows) if ours else g.mT @ rows) if to_weight else None,
            g.sum(0) if to_bias else None,
        )


def suits_pointwise(dtype: torch.dtype | None, h: Tensor, weight: Tensor) -> bool:
    """Whether `Pointwise` is the faster way: in bfloat16, channels first.

    A convolution puts its input and output in another order; the products of each example take them as they are.
    In float32 they are PyTorch's, by MKL, and gain nothing.
    """
    large = h.numel() * weight.shape[0] >= FEWEST
    return large and dtype == torch.bfloat16 and bf16_is_native() and h.is_contiguous()


class Pointwise(torch.autograd.Function):
    """weight h + bias for (B, K, ...), (N, K) and (N,) or None, all of one dtype: a convolution with a kernel of 1."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(h, weight, bias)
        x, each = h.flatten(2), weight.expand(len(h), -1, -1)
        made = torch.bmm(each, x) if bias is None else torch.baddbmm(bias[:, None], each, x)
        return aten._unsafe_view(made, (len(h), len(weight), *h.shape[2:]))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        h, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return tuple(differentiable(definitions.pointwise, (h, weight, bias), ctx.needs_input_grad, grad))
        g, x = grad.flatten(2), h.flatten(2)
        to_h, to_weight, to_bias = ctx.needs_input_grad
        return (
            torch.bmm(weight.mT.expand(len(h), -1, -1), g).view(h.shape) if to_h else None,
            torch.bmm(g, x.mT).sum(0) if to_weight else None,
            g.sum((0, 2)) if to_bias else None,
        )
