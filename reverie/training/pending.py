"""What a step has computed and the host has yet to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reverie.training.batches import Batch


@dataclass(frozen=True, eq=False)
class Pending:
    """The loss, the norm of the gradient and the signals of a step, on their way to the host.

    On a CPU they are there at once. From a GPU they are copied while it works; `read` waits for the copy.
    """

    step: int
    """Its number, from 0."""
    parts: list[Batch]
    """Its batches, for a diagnosis."""
    values: Tensor
    """On the host: the norm, then the loss and the signal of each process in turn."""
    copied: Any = None
    """The CUDA event after the copy."""

    @classmethod
    def of(cls, step: int, parts: list[Batch], told: Tensor, norm: Tensor) -> Pending:
        """`told` is (processes, 2), the loss and the signal of each; `norm` is ()."""
        values = torch.cat([norm[None].to(told), told.flatten()])
        if values.device.type != "cuda":
            return cls(step, parts, values.cpu())
        host, copied = values.to("cpu", non_blocking=True), torch.cuda.Event()  # into memory that is pinned
        copied.record()
        return cls(step, parts, host, copied)

    def read(self) -> tuple[float, float, int]:
        """The loss on all processes, the norm, and the largest signal, 0 for none."""
        if self.copied is not None:
            self.copied.synchronize()
        told = self.values[1:].reshape(-1, 2)
        return float(told[:, 0].mean()), float(self.values[0]), int(told[:, 1].max())


def skip_unless_finite(optimizer: torch.optim.Optimizer, told: Tensor, norm: Tensor) -> None:
    """Have the next update change nothing if the loss or the norm is not finite, without asking the device.

    One kernel for all parameters takes such a flag, which scalers of fp16 use as well.
    """
    finite = told[:, 0].isfinite().all() & norm.isfinite()
    bare: Any = getattr(optimizer, "optimizer", optimizer)
    bare.found_inf = (~finite).to(torch.float32)
