"""Operations: the fast way against the plain one, forward and backward, at the sizes of a U-Net and of a DiT.

    python -m benchmarks.training.kernels                    # a minute or two
    OMP_NUM_THREADS=1 python -m benchmarks.training.kernels --cpu-time --only linear

Both ways of one operation are timed by turns, some calls of each a round; the ratio is the median over rounds of
the ratio within a round, so that a busy machine slows both alike. `--cpu-time` counts the time of this thread
alone, for one thread on a machine with other work. The batch is 32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.devices import keep_freed_memory
from reverie.nets import kernels

BATCH = 32


@dataclass(frozen=True)
class Operation:
    """A function of tensors of some shapes."""

    name: str
    sizes: str
    function: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]


def operations() -> list[Operation]:
    """All that are compared."""
    found = []
    for length, width in ((256, 384), (64, 256)):
        x = (BATCH, length, width)
        for out in (width, 3 * width, 4 * width):
            shapes = (x, (out, width), (out,))
            found.append(Operation("linear", f"{BATCH * length} x {width} -> {out}", kernels.linear, shapes))
        shapes = ((BATCH, length, 4 * width), (width, 4 * width), (width,))
        found.append(Operation("linear", f"{BATCH * length} x {4 * width} -> {width}", kernels.linear, shapes))
        heads = (BATCH, width // 64, length, 64)
        found.append(Operation("attention", "x".join(map(str, heads)), kernels.attention, (heads,) * 3))
        found.append(Operation("layer_norm", "x".join(map(str, x)), kernels.layer_norm, (x, *[(BATCH, width)] * 2)))
    for length in (256, 1024):
        heads = (BATCH, 4, length, 32)
        found.append(Operation("attention", "x".join(map(str, heads)), kernels.attention, (heads,) * 3))
    for channels, side in ((64, 32), (128, 32), (128, 16), (128, 8)):
        h, c = (BATCH, channels, side, side), (channels,)
        found.append(Operation("group_norm", "x".join(map(str, h)) + ", SiLU", _norm, (h, c, c)))
        modulated = (h, (BATCH, channels), (BATCH, channels))
        found.append(Operation("group_norm", "x".join(map(str, h)) + ", modulated", _modulated, modulated))
        wide = (BATCH, 2 * channels, side, side)
        shapes = (wide, (channels, 2 * channels), c)
        found.append(Operation("pointwise", "x".join(map(str, wide)) + f" -> {channels}", kernels.pointwise, shapes))
    return found


def _norm(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return kernels.group_norm(h, 32, weight, bias, silu=True)


def _modulated(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return kernels.group_norm(h, 32, None, None, scale=scale, shift=shift, silu=True)


def step(operation: Operation, dtype: torch.dtype, plain: bool) -> Callable[[], None]:
    """A forward and a backward pass; the parameters, of one or two axes, are float32 as under autocast."""
    wide = [len(s) > 2 for s in operation.shapes]
    given = [torch.randn(s, dtype=dtype if w else torch.float32) for s, w in zip(operation.shapes, wide, strict=True)]
    inputs = [t.requires_grad_() for t in given]
    direction = None

    def run() -> None:
        nonlocal direction
        with kernels.plain() if plain else nullcontext(), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = operation.function(*inputs)
        direction = torch.randn_like(out) if direction is None else direction
        torch.autograd.grad(out, inputs, direction)

    return run


def compared(ways: list[Callable[[], None]], rounds: int, clock: Callable[[], float]) -> list[list[float]]:
    """Seconds a call, of each way in each round."""
    calls = 1
    for way in ways:
        way()
        began = clock()
        way()
        calls = max(calls, int(0.05 / max(clock() - began, 1e-6)))
    found: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, kept in zip(ways, found, strict=True):
            began = clock()
            for _ in range(calls):
                way()
            kept.append((clock() - began) / calls)
    return found


def main() -> None:
    """Print a row for every operation and dtype."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="operations whose name contains this")
    parser.add_argument("--cpu-time", action="store_true", help="time of this thread, not of the clock on the wall")
    told = parser.parse_args()
    keep_freed_memory()
    torch.manual_seed(0)
    clock = time.thread_time if told.cpu_time else time.perf_counter
    print("| operation | sizes | dtype | plain, ms | fast, ms | plain / fast |\n|---|---|---|---|---|---|")
    for operation in operations():
        if told.only and told.only not in operation.name:
            continue
        for dtype in (torch.float32, torch.bfloat16):
            plain, fast = compared([step(operation, dtype, p) for p in (True, False)], told.rounds, clock)
            ratio = statistics.median(a / b for a, b in zip(plain, fast, strict=True))
            times = " | ".join(f"{1e3 * statistics.median(t):.2f}" for t in (plain, fast))
            name = str(dtype).removeprefix("torch.")
            print(f"| {operation.name} | {operation.sizes} | {name} | {times} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
