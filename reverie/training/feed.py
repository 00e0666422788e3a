"""The batches of a run as its steps ask for them, with a watch on how long they wait."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from reverie.data import Examples
from reverie.training.batches import Batch, Batches, Held

LONG = 0.2
"""The share of the time spent waiting from which on there is something to be gained."""


class Feed:
    """Gives the batches of one step after the other, made ahead of time by a thread where that helps.

    A thread helps where a batch may have to wait: for a disk, as examples in a memory map do, or for the
    way to a GPU. Examples in memory, or on the GPU already, are indexed in well under a millisecond, and
    a thread on a CPU would take that time from the step. What a batch holds is a function of the
    seed and the step, so it is the same either way.

    Args:
        batches: of the process.
        steps: how many there are; none is made ahead beyond them.
    """

    def __init__(self, batches: Batches, steps: int) -> None:
        self._batches, self._steps = batches, steps
        self.ahead = waits(batches.examples, batches.device)
        self._thread = (
            ThreadPoolExecutor(1, "batches", initializer=_on, initargs=(batches.device,)) if self.ahead else None
        )
        self._next: tuple[int, Future[list[Batch]]] | None = None
        self._waited, self._since = 0.0, time.perf_counter()

    def step(self, step: int) -> list[Batch]:
        """The batches of step number `step`, from 0."""
        began = time.perf_counter()
        made = self._made(step)
        self._waited += time.perf_counter() - began
        return made

    def _made(self, step: int) -> list[Batch]:
        if self._thread is None:
            return self._batches.step(step)
        ready = self._next if self._next and self._next[0] == step else (step, self._ask(step))
        self._next = None
        made = ready[1].result()
        if step + 1 < self._steps:
            self._next = (step + 1, self._ask(step + 1))
        return made

    def _ask(self, step: int) -> Future[list[Batch]]:
        assert self._thread is not None
        return self._thread.submit(self._batches.step, step)

    def waiting(self) -> float:
        """The share, 0 to 1, of the time since this was last asked for, or since `restart`, that steps waited."""
        share = self._waited / max(time.perf_counter() - self._since, 1e-9)
        self.restart()
        return share

    def restart(self) -> None:
        """Count from now on."""
        self._waited, self._since = 0.0, time.perf_counter()

    def close(self) -> None:
        """End the thread."""
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def advice(self, share: float) -> str:
        """What can be done about steps that wait for this share of the time; empty where it is small."""
        if share < LONG:
            return ""
        if self.ahead:
            remedy = "a faster disk, more memory for its cache, or smaller examples would help"
        else:
            remedy = "the network is small beside the work of making a batch; a larger train.batch shares it out"
        return f"steps wait for their data {share:.0%} of the time: {remedy}"


def waits(examples: Examples | Held, device: torch.device | str) -> bool:
    """Whether a batch of the examples may have to wait for something other than this process."""
    if isinstance(examples, Held):
        return False
    return torch.device(device).type == "cuda" or mapped(examples.items)


def mapped(items: np.ndarray) -> bool:
    """Whether an array lies in a file that is mapped into memory, itself or what it is a view of."""
    base: object = items
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def _on(device: torch.device | str) -> None:
    """A thread has a device of its own, the first, until it is told another."""
    if torch.device(device).type == "cuda":
        torch.cuda.set_device(device)
