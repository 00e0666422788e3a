"""oneDNN's product of float32 matrices as an operator that `torch.compile`, which would call MKL, leaves as it is.

Letters in shapes: M rows, K their length, N that of the result.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reverie.nets.kernels import products
from reverie.nets.kernels.choice import forced, mkl_is_slow

WANTED = mkl_is_slow()
"""Whether it is called at all; a constant, since what finds it out cannot be traced."""


def suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether `linear` is the faster way in compiled code."""
    if not (WANTED and torch.compiler.is_compiling()) or forced() or torch.is_autocast_enabled("cpu"):
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    parts = (x, weight) if bias is None else (x, weight, bias)
    ordinary = all(t.device.type == "cpu" and t.dtype == torch.float32 for t in parts)
    return ordinary and x.numel() * weight.shape[0] >= products.FEWEST


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias for (..., K), (N, K) and (N,) or None."""
    made: Tensor = multiplied(x.reshape(-1, x.shape[-1]), weight)
    made = made.reshape(*x.shape[:-1], -1)
    return made if bias is None else made + bias


@torch.library.custom_op("reverie::multiplied", mutates_args=())
def multiplied(a: Tensor, b: Tensor) -> Tensor:
    """a b^T for (M, K) and (N, K)."""
    return products.product(a, b)


@multiplied.register_fake
def _(a: Tensor, b: Tensor) -> Tensor:
    return a.new_empty(a.shape[0], b.shape[0])


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # noqa: ANN401
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
    a, b = ctx.saved_tensors
    to_a, to_b = ctx.needs_input_grad
    return multiplied(grad, b.mT) if to_a else None, multiplied(grad.mT, a.mT) if to_b else None


multiplied.register_autograd(_gradients, setup_context=_keep)
