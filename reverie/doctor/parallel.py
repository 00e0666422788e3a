"""Data parallel: the gradient of two processes against that of one with all their rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from reverie.denoiser import Denoiser
from reverie.doctor.device import relative
from reverie.doctor.finding import Check, Seen
from reverie.losses import Denoising
from reverie.nets import MLPConfig
from reverie.parameterizations import Velocity
from reverie.schedules import Flow
from reverie.tensor_files import read_tensors, write_tensors
from reverie.tensors import generator, global_randomness

GROUP = "parallel"
ROWS = 16


class Objective(nn.Module):
    """A perceptron and its loss, for data parallel to wrap."""

    def __init__(self) -> None:
        super().__init__()
        with global_randomness(37):
            self.denoiser = Denoiser(MLPConfig(16, 1).build((2,)), Flow(), Velocity())
            with torch.no_grad():
                for p in self.denoiser.parameters():
                    p.add_(0.1 * torch.randn_like(p))

    def forward(self, x0: Tensor, u: Tensor, eps: Tensor) -> Tensor:
        """The mean loss of some pairs."""
        return Denoising("flow")(self.denoiser, x0, u.cpu(), None, lambda like: eps).mean()


def checks(device: torch.device) -> Iterator[Check]:
    """Of two devices of this kind, where there are two."""
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    name = "gradients of two processes"
    if count < 2:
        yield Check(GROUP, name, "those of one", lambda: Seen("one device: nothing to compare", None))
        return
    advice = "do not train on several devices here"
    yield Check(GROUP, name, "those of one with twice the batch, to 1e-4", lambda: compared(device.type), advice)


def compared(kind: str) -> Seen:
    """Two processes, each on half of the rows and on a device of its own, against this one on all rows."""
    model = Objective()
    model(*_rows(slice(None))).backward()
    truth = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    with tempfile.TemporaryDirectory(prefix="reverie-doctor-") as folder:
        path = Path(folder) / "gradient.safetensors"
        spawn(_worker, (kind, str(path)), nprocs=2)
        seen = read_tensors(path)["gradient"]
    gap = relative(seen, truth)
    return Seen(f"off by {gap:.2g}", gap <= 1e-4)


def _rows(rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    random = generator(41)
    x0, eps = torch.randn(ROWS, 2, generator=random), torch.randn(ROWS, 2, generator=random)
    return x0[rows], torch.rand(ROWS, generator=random, dtype=torch.float64)[rows], eps[rows]


def _worker(rank: int, kind: str, path: str) -> None:
    """One of two processes, which meet in a file; the first writes the gradient."""
    if kind == "cpu":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "nccl" if kind == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{path}.meeting", rank=rank, world_size=2)
    device = torch.device(kind, rank) if kind == "cuda" else torch.device(kind)
    try:
        model = nn.parallel.DistributedDataParallel(
            Objective().to(device), device_ids=[rank] if kind == "cuda" else None
        )
        x0, u, eps = _rows(slice(rank * ROWS // 2, (rank + 1) * ROWS // 2))
        model(x0.to(device), u, eps.to(device)).backward()
        if rank == 0:
            gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            write_tensors(Path(path), {"gradient": gradient})
        torch.distributed.barrier()  # neither leaves while the other still talks to it
    finally:
        torch.distributed.destroy_process_group()
