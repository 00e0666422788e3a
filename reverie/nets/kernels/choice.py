"""Which way an operation is computed: a rule of the machine, the dtype and the shapes, never of a clock.

A rule gives the same answer in every run on one machine, so that a resumed run is the uninterrupted one
bit for bit, which a measurement at the start could not promise.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from reverie.devices import processor

_forced = False
_faked = False


def forced() -> bool:
    """Whether this is inside `plain()`."""
    return _forced


@contextmanager
def plain() -> Iterator[None]:
    """All operations by their plain definitions, in forward passes begun inside (in every thread).

    With gradient checkpointing the backward pass belongs inside too: it computes forward once more.

    >>> with plain():
    ...     eager(torch.ones(1))
    False
    """
    global _forced
    before, _forced = _forced, True
    try:
        yield
    finally:
        _forced = before


@contextmanager
def faked() -> Iterator[None]:
    """Inside, fake tensors, which have no numbers, take the ways of those they stand for: to see what these keep."""
    global _faked
    before, _faked = _faked, True
    try:
        yield
    finally:
        _faked = before


def watched() -> bool:
    """Whether a dispatch mode looks on, which counts FLOPs or fakes tensors; not inside `faked()`."""
    return not _faked and bool(torch._C._len_torch_dispatch_stack())


def eager(*given: Tensor | None) -> bool:
    """Whether a fast way may be considered: ordinary tensors on the CPU, and nothing looking on or transforming.

    Not inside `plain()`, while `torch.compile` traces, under `torch.func`, forward-mode derivatives or a
    dispatch mode (which counts FLOPs, or fakes tensors), with oneDNN switched off, nor for subclasses of Tensor.
    Inside `faked()` fake tensors count as ordinary.
    """
    if _forced or torch.compiler.is_compiling() or not torch.backends.mkldnn.enabled:
        return False
    if torch._C._are_functorch_transforms_active() or watched():
        return False
    parts = [t for t in given if t is not None]
    return all(
        (_faked or type(t) in (Tensor, nn.Parameter))
        and t.device.type == "cpu"
        and t.layout == torch.strided
        and t.numel() > 0
        and forward_ad.unpack_dual(t).tangent is None
        for t in parts
    )


def computed(*given: Tensor | None) -> torch.dtype | None:
    """The dtype that a product of these is computed in: autocast's, or their own if they share one, else None."""
    dtypes = {t.dtype for t in given if t is not None}
    if torch.is_autocast_enabled("cpu"):
        ordinary = dtypes <= {torch.float32, torch.bfloat16, torch.float16}
        return torch.get_autocast_dtype("cpu") if ordinary else None
    return dtypes.pop() if len(dtypes) == 1 else None


@cache
def has_onednn() -> bool:
    """Whether oneDNN's matrix product can be called."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def bf16_is_native() -> bool:
    """Whether the CPU multiplies bfloat16 (AVX-512 BF16 or AMX); elsewhere nothing is gained by it."""
    return has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and "avx512_bf16" in _cpu()


@cache
def mkl_is_slow() -> bool:
    """Whether MKL, which multiplies float32 matrices by default, is slower than oneDNN here.

    It uses AVX-512 on Intel's processors alone: on others that have it, half of their speed is lost.
    """
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return has_onednn() and torch.backends.mkl.is_available() and wide and "genuineintel" not in _cpu()


@cache
def _cpu() -> str:
    """What the system says of the processor: its maker and, on Linux, its instructions."""
    return processor() or platform.processor().lower()


def differentiable(
    formula: Callable[..., Tensor], inputs: Sequence[Tensor | None], wanted: Sequence[bool], grad: Tensor
) -> list[Tensor | None]:
    """The gradients of `formula(*inputs)` along `grad` as a graph of their own, for derivatives of derivatives.

    They are computed in the dtypes of the inputs, as the forward pass was, whether autocast is on by now or not.

    Args:
        formula: differentiable as often as wanted.
        inputs: of which some may be None.
        wanted: for which of them.
        grad: like the output.
    """
    # views, so that a tensor given twice has a derivative in each place
    apart: list[Any] = [None if t is None else t.view_as(t) for t in inputs]
    asked = [i for i, want in enumerate(wanted) if want]
    with torch.autocast("cpu", enabled=False):
        out = formula(*apart)
        made = torch.autograd.grad(out, [apart[i] for i in asked], grad, create_graph=True, allow_unused=True)
    grads: list[Tensor | None] = [None] * len(apart)
    for i, value in zip(asked, made, strict=True):
        grads[i] = value
    return grads
