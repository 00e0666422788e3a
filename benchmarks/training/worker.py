"""One case in a process of its own: it builds a network, warms up, then makes one training step whenever it is asked.

Started by `benchmarks.training.steps`, with a case as JSON. It reads one word a line, `step` or `end`, and
answers each with a line of JSON. Between lines it waits without using a processor, so that of all
workers only the one that was asked computes. The allocator setting of `reverie.devices.keep_freed_memory` holds
for a whole process: ours has it, as `reverie train` does; the peers run without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.training.networks import NETWORKS, SHAPE, parameters, plain_path
from reverie.devices import keep_freed_memory
from reverie.recipe import Train
from reverie.training.optim import optimizer
from reverie.training.speed import arithmetic, lay_out

LR = 1e-4


@dataclass(frozen=True)
class Case:
    """What a worker does."""

    network: str
    """A name of `benchmarks.training.networks.NETWORKS`."""
    precision: str = "float32"
    """Or bf16, by autocast."""
    compiled: str = ""
    """Mode of torch.compile; empty: eager."""
    plain: bool = False
    """Ours by the plain definitions, without the allocator setting."""
    channels_last: bool = False
    device: str = "cpu"
    size: str = "small"
    batch: int = 32
    inner: int = 1
    """Steps between two looks at the clock."""

    @property
    def label(self) -> str:
        """For tables."""
        words = [self.network.rpartition("-")[0], self.precision]
        words += ["plain"] if self.plain else []
        words += ["compiled"] if self.compiled else []
        return ", ".join(words)

    @property
    def ours(self) -> bool:
        """Whether it is to be trained as Reverie's trainer does."""
        return self.network.startswith("reverie")

    @property
    def train(self) -> Train:
        """What the trainer would be told."""
        return Train(lr=LR, precision="bf16" if self.precision == "bf16" else "no", compile=bool(self.compiled))

    def plainly(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def status(name: str) -> int:
    """A line of /proc/self/status in bytes, such as VmRSS, what is resident, and VmHWM, the most that ever was."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")


def forget_peak() -> None:
    """Begin to measure the most resident memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def trim() -> None:
    """Give freed memory back to the system, so that what is resident is what is in use."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def stepper(case: Case) -> tuple[nn.Module, Callable[[], float]]:
    """The network, and a function that makes a full training step and gives the loss."""
    network, device = NETWORKS[case.network], torch.device(case.device)
    torch.manual_seed(0)
    net = network.build(case.size).to(device).train()
    form = torch.contiguous_format
    if case.ours:
        lay_out(net, case.train, device)
    elif case.channels_last:
        form = torch.channels_last
        net = net.to(memory_format=form)
    updates = optimiser(case, net)
    x, target = (torch.randn(case.batch, *SHAPE, device=device).contiguous(memory_format=form) for _ in range(2))
    t = torch.rand(case.batch, device=device)
    made = net if not case.compiled else torch.compile(net, mode=case.compiled)

    def step() -> torch.Tensor:
        updates.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=case.precision == "bf16"):
            out = network.call(made, x, t)
        loss = F.mse_loss(out.float(), target)
        loss.backward()
        updates.step()
        return loss.detach()

    def steps() -> float:
        with plain_path() if case.plain else contextlib.nullcontext():
            for _ in range(case.inner):
                loss = step()
        return float(loss)  # waits for the device

    return net, steps


def optimiser(case: Case, net: nn.Module) -> torch.optim.Optimizer:
    """AdamW: ours as the trainer chooses it, the peers' as torch does, and the fused one for all on a GPU."""
    if case.ours:
        return optimizer(net, case.train, case.device)
    return torch.optim.AdamW(net.parameters(), lr=LR, fused=case.device.startswith("cuda") or None)


def peak(case: Case, base: int) -> int:
    """The most bytes in use since `forget_peak`, beyond `base`; on a GPU those of its tensors."""
    if case.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return status("VmHWM") - base


def compilations() -> dict[str, int]:
    """What torch.compile did: graphs, and breaks between them."""
    from torch._dynamo.utils import counters

    return {"graphs": counters["stats"]["unique_graphs"], "breaks": sum(counters["graph_break"].values())}


def serve(case: Case) -> None:
    """Warm up, then answer. The answer to `end` says how much memory it took."""
    if case.device.startswith("cuda") and not case.ours:
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    net, _ = stepper(Case(case.network, size=case.size, batch=1))
    count = parameters(net)
    F.conv2d(torch.randn(1, 3, 8, 8), torch.randn(3, 3, 3, 3))  # so that threads and kernels are there
    del net
    trim()
    base = 0 if case.device.startswith("cuda") else status("VmRSS")
    if case.ours and not case.plain and case.device == "cpu":
        keep_freed_memory()
    if base:
        forget_peak()
    began = time.perf_counter()
    _, steps = stepper(case)
    losses = [steps() for _ in range(3)]
    if not base:
        torch.cuda.reset_peak_memory_stats()  # choosing kernels took some
    answer({"parameters": count, "losses": losses, "warming": time.perf_counter() - began})
    for line in sys.stdin:
        if line.strip() != "step":
            break
        began = time.perf_counter()
        steps()
        answer({"seconds": (time.perf_counter() - began) / case.inner})
    answer({"peak": peak(case, base), **(compilations() if case.compiled else {})})


def answer(found: dict[str, Any]) -> None:
    """A line to whoever asked."""
    _OUT.write(json.dumps(found) + "\n")
    _OUT.flush()


_OUT = sys.stdout

if __name__ == "__main__":
    sys.stdout = sys.stderr  # libraries print; the answers are for a program
    told = Case(**json.loads(sys.argv[1]))
    with arithmetic(told.train, torch.device(told.device)) if told.ours else contextlib.nullcontext():
        serve(told)
