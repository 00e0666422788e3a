"""What makes a training step fast on the device at hand, and what a user should know of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from reverie.faster import computes_bf16, reason
from reverie.memory import exhausted
from reverie.recipe import Train

BACKEND = "inductor"
"""Of torch.compile."""


def lay_out(net: nn.Module, train: Train, device: torch.device) -> None:
    """Keep the channels of an image innermost where tensor cores compute its convolutions, which want them there.

    That is on CUDA, with half precision or TF32. Elsewhere float32 convolutions are as fast without, and
    normalisation is slower with it. Names and values of the weights stay.
    """
    if device.type != "cuda" or (train.precision == "no" and not train.tf32):
        return
    for kind, layout in ((nn.Conv2d, torch.channels_last), (nn.Conv3d, torch.channels_last_3d)):
        for layer in (m for m in net.modules() if isinstance(m, kind)):
            layer.to(memory_format=layout)  # type: ignore[call-overload]


@contextmanager
def arithmetic(train: Train, device: torch.device) -> Iterator[None]:
    """Inside, float32 on CUDA is TF32 if `train.tf32` says so, else float32 throughout.

    torch leaves convolutions TF32 and matrix products float32 unless told. One rule for both makes
    the numbers of a run mean the same wherever they come from.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = train.tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def advice(train: Train, device: torch.device) -> Iterator[str]:
    """Sentences on settings that the device has little use for, or that it would be faster with."""
    if train.precision == "bf16" and computes_bf16(device) is False:
        yield f"this {device.type} has no instructions for bf16: train.precision=bf16 saves memory and takes longer"
    if train.tf32 and device.type != "cuda":
        yield f"train.tf32=true is for CUDA and does nothing on {device.type}"
    if device.type == "cuda" and train.precision == "no" and not train.tf32:
        yield "float32 leaves tensor cores idle: train.precision=bf16, or train.tf32=true, is several times as fast"


class Compiled:
    """A network compiled where it stands, so that its weights keep their names; copies of it are not compiled.

    It compiles when it is first called, and again where it is called in another way: how often, is counted.

    Args:
        net: the network.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net, self._before, self.on = net, _graphs(), True
        net.compile(backend=BACKEND, dynamic=False)  # the rows of a call are always as many

    @property
    def graphs(self) -> int:
        """How many graphs have been compiled: 1 for each way the network is called, if all goes well."""
        return _graphs() - self._before

    def gives_up(self, error: Exception) -> str | None:
        """After an error: in words, that the network runs uncompiled from now on; None where that would not help."""
        if not self.on or exhausted(error):
            return None
        self.on = False
        self._net._compiled_call_impl = None
        return f"the network cannot be compiled here ({reason(error)}); it runs uncompiled"


def _graphs() -> int:
    from torch._dynamo.utils import counters

    stats: Any = counters["stats"]
    return int(stats["unique_graphs"])
