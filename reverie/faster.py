"""The same network, computed faster: in half precision, or compiled.

Each function gives a denoiser of its own and leaves the one given as it was. x and all arithmetic of
samplers stay in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoiser
from reverie.devices import processor
from reverie.memory import exhausted

Precision = Literal["no", "bf16", "fp16"]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def checked_precision(precision: str, device: torch.device | str) -> Precision:
    """A precision, if it is one and of use on a device.

    Raises:
        ValueError: naming those that can be used there.
    """
    kind = torch.device(device).type
    usable: tuple[Precision, ...] = ("no", "bf16", "fp16") if kind == "cuda" else ("no", "bf16")
    for known in usable:
        if precision == known:
            return known
    why = " (fp16 is for cuda)" if precision == "fp16" else ""
    raise ValueError(f"precision must be {' or '.join(usable)} on {kind}; given {precision!r}{why}")


def computes_bf16(device: torch.device | str) -> bool | None:
    """Whether a device has instructions for products in bf16; None where nobody tells.

    A CPU of the x86 family says so by avx512_bf16 or amx_bf16, one of Arm's by bf16.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return None
    lines = (processor() or "").splitlines()
    words = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "features"))), None)
    return None if words is None else not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)


def cast(denoiser: Denoiser, precision: Precision) -> Denoiser:
    """The denoiser with the weights and activations of its network in `precision`; "no" leaves it as it is.

    bf16 keeps float32's range and 8 bits of its 24; fp16 keeps 11 bits and overflows above 65,504.
    """
    if precision == "no":
        return denoiser
    return _with(denoiser, copy.deepcopy(denoiser.net).to(HALF[precision]))


def compiled(denoiser: Denoiser, notice: Callable[[str], object], backend: str = "inductor") -> Denoiser:
    """The denoiser with its network compiled by `torch.compile` when it is first called.

    Args:
        denoiser: whose network to compile.
        notice: is told, once, in a sentence, if it cannot be compiled; it then runs as it is.
        backend: of `torch.compile`.
    """
    return _with(denoiser, _Compiled(denoiser.net, notice, backend))


def reason(error: Exception) -> str:
    """The first line of what went wrong, inside the compiler where its error says so."""
    inner = getattr(error, "inner_exception", error)
    return str(inner).strip().partition("\n")[0] or type(inner).__name__


def _with(denoiser: Denoiser, net: nn.Module) -> Denoiser:
    parts = denoiser.schedule, denoiser.parameterization, denoiser.label, denoiser.self_conditioned
    return Denoiser(net, *parts).train(denoiser.training)


class _Compiled(nn.Module):
    """A network that is compiled at the first call, or left as it is where that fails."""

    def __init__(self, net: nn.Module, notice: Callable[[str], object], backend: str) -> None:
        super().__init__()
        self.net, self.notice, self.backend = net, notice, backend
        self.conditions = getattr(net, "conditions", None)
        self.fast: Callable[..., Any] | None = None

    def forward(self, x: Tensor, label: Tensor, cond: Cond | None) -> Tensor:
        if self.fast is None:
            try:
                # The rows of a call are always as many: a kernel for that number alone is the fastest.
                self.fast = torch.compile(self.net, backend=self.backend, dynamic=False)
                return self.fast(x, label, cond)
            except Exception as error:  # whatever a compiler, or the lack of one, may raise
                if exhausted(error):
                    self.fast = None
                    raise
                self.notice(f"the network cannot be compiled here ({reason(error)}); it runs uncompiled")
                self.fast = self.net
        return self.fast(x, label, cond)
