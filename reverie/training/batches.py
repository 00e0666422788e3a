"""Which examples and which randomness belong to a step: pure functions of (seed, step).

So a resumed run continues exactly, and P processes with batch B see what one with batch P B sees:
every process draws for the whole step and keeps its own rows.

Letters in shapes: G examples a step on all processes, B those of one process.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.data import Examples
from reverie.memory import available
from reverie.prompts import OfExamples, Place
from reverie.spaces import Space
from reverie.tensors import Noise, generator
from reverie.training.noise import Draws

INITIAL, ORDER, STEP, VALIDATION, DROPOUT, SHOWN = 0, 1, 2, 3, 4, 6
"""Keeps the streams of randomness of different uses apart."""
SHARE = 0.25
"""Of the memory that is free on a device, what the data may take there."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one process needs for one gradient: all of B rows."""

    x0: Tensor
    u: Tensor
    """(B,) float64 on the host: where the times fall."""
    noise: Callable[[], Noise]
    """Noise for one evaluation of the loss: the same draws every time."""
    cond: Cond | None


@dataclass(frozen=True, eq=False)
class Masks:
    """What is done to the G examples of a step."""

    hidden: Tensor
    """(G,) bool, where the whole condition is hidden."""
    apart: Tensor | None
    """(G, P) bool, where a part of it is hidden by itself; None for conditions of one part."""
    mirrored: Tensor | None
    """(G,) bool, what is mirrored; None for nothing."""


@dataclass(frozen=True, eq=False)
class Held:
    """Examples that stand on a device as they are stored, so that a batch is an index into them."""

    items: Tensor
    """(N, ...), uint8 images or float32 arrays."""
    labels: Tensor | None
    """(N,) int64."""


def hold(examples: Examples, device: torch.device | str) -> Examples | Held:
    """The examples on a CUDA device if they take at most `SHARE` of what is free there; else as they are."""
    device = torch.device(device)
    room = available(device) if device.type == "cuda" else None
    return examples if room is None or examples.items.nbytes > SHARE * room else held(examples, device)


def held(examples: Examples, device: torch.device | str) -> Held:
    """The examples on a device."""
    labels = None if examples.labels is None else torch.from_numpy(examples.labels).to(device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*not writable")  # nobody writes to a file that is mapped
        items = torch.from_numpy(np.ascontiguousarray(examples.items))
    return Held(items.to(device), labels)


@dataclass(frozen=True, eq=False)
class Batches:
    """The training batches of one process.

    Args:
        examples: the data.
        rows: (N,) indices to train on.
        space: encodes them.
        seed: the run's.
        batch: B.
        parts: batches a step on each process.
        rank, world: this process and how many there are.
        labels: whether labels condition the model.
        drop: probability that an example's condition is hidden.
        flip: whether to mirror half of the images.
        device: where the tensors go.
        told: what the model is told of the examples besides their label; nothing unless given.
        drop_part: probability that each of several parts of a condition is hidden by itself.
        balanced: (N,), as in `Examples`, of the rows; each of them once an epoch unless given.
        mirrored: the examples turned left to right, where that is more than turning x0.
    """

    examples: Examples | Held
    rows: np.ndarray
    space: Space
    seed: int
    batch: int
    parts: int = 1
    rank: int = 0
    world: int = 1
    labels: bool = True
    drop: float = 0.0
    flip: bool = False
    device: torch.device | str = "cpu"
    told: OfExamples | None = None
    drop_part: float = 0.0
    balanced: np.ndarray | None = None
    mirrored: Examples | Held | None = None

    def step(self, step: int) -> list[Batch]:
        """The batches of step number `step`, from 0; `parts` of them."""
        total = self._total
        u, draw = self._times(step)
        hidden = torch.rand(total, generator=draw) < self.drop
        mirrored = torch.rand(total, generator=draw) < 0.5 if self.flip else None
        parts = 0 if self.told is None else self.told.several
        apart = torch.rand((total, parts), generator=draw) < self.drop_part if parts else None
        noise = Draws(total, lambda k: generator(self.seed, STEP, step, 1 + k, device=self.device))
        chosen = self._rows(step * total, total)
        return [
            self._part(step, chosen, u, noise, Masks(hidden, apart, mirrored), slice(first, first + self.batch))
            for first in range(self.rank * self.batch, total, self.batch * self.world)
        ]

    def times(self, step: int) -> Tensor:
        """u (G,) of all examples of a step, on all processes."""
        return self._times(step)[0]

    @property
    def _total(self) -> int:
        return self.batch * self.parts * self.world

    def _times(self, step: int) -> tuple[Tensor, torch.Generator]:
        """u (G,), and the generator that goes on from there."""
        draw = generator(self.seed, STEP, step)
        place = torch.randperm(self._total, generator=draw, dtype=torch.float64)
        return (place + torch.rand(self._total, generator=draw, dtype=torch.float64)) / self._total, draw  # stratified

    def _part(self, step: int, chosen: np.ndarray, u: Tensor, noise: Draws, masks: Masks, rows: slice) -> Batch:
        x0, label = encoded(self.examples, self.space, chosen[rows], self.device)
        if masks.mirrored is not None:
            mask = moved(masks.mirrored[rows], self.device).reshape((-1,) + (1,) * (x0.ndim - 1))
            other = x0.flip(-1)
            if self.mirrored is not None:
                other = encoded(self.mirrored, self.space, chosen[rows], self.device)[0]
            x0 = torch.where(mask, other, x0)
        hidden, label = masks.hidden[rows], label if self.labels else None
        cond = None
        if self.told is not None:
            apart = None if masks.apart is None else masks.apart[rows]
            place = Place(rows.start, self._total, (self.seed, SHOWN, step))
            cond = self.told.cond(chosen[rows], x0, label, hidden, apart, place)
        elif label is not None:
            cond = Cond(label=label, drop=moved(hidden, self.device))
        return Batch(x0, u[rows], partial(noise.noise, rows), cond)

    def _rows(self, first: int, count: int) -> np.ndarray:
        """`count` training rows from position `first` of an endless series of shuffled epochs."""
        n, out = self._length, []
        while count > 0:
            epoch, offset = divmod(first, n)
            taken = self._epoch(epoch)[offset : offset + count]
            out.append(taken)
            first, count = first + len(taken), count - len(taken)
        return np.concatenate(out)

    @cached_property
    def _members(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Positions in `rows` in the order of their numbers in `balanced`, where each number begins, and how many."""
        assert self.balanced is not None
        order = np.argsort(self.balanced, kind="stable")
        _, first, count = np.unique(self.balanced[order], return_index=True, return_counts=True)
        return order, first, count

    @property
    def _length(self) -> int:
        """Examples an epoch."""
        return len(self.rows) if self.balanced is None else len(self._members[1])

    def _epoch(self, epoch: int) -> np.ndarray:
        order = _permutation(self._length, self.seed, epoch)
        if self.balanced is None:
            return self.rows[order]
        members, first, count = self._members
        draw = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, ORDER, epoch, 1))))
        taken = first + np.floor(draw.random(len(first)) * count).astype(np.int64)
        return self.rows[members[taken[order]]]


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, ORDER, epoch)))).permutation(n)


def encoded(
    examples: Examples | Held, space: Space, rows: np.ndarray, device: torch.device | str
) -> tuple[Tensor, Tensor | None]:
    """x0 (B, ...) and labels (B,) of some rows."""
    if isinstance(examples, Held):
        index = moved(torch.from_numpy(np.ascontiguousarray(rows)), device)
        return space.encode(examples.items[index]), None if examples.labels is None else examples.labels[index]
    x0 = space.encode(moved(torch.from_numpy(np.ascontiguousarray(examples.items[rows])), device))
    return x0, None if examples.labels is None else moved(torch.from_numpy(examples.labels[rows]), device)


def moved(values: Tensor, device: torch.device | str) -> Tensor:
    """Values of the host on a device, without waiting for it."""
    if torch.device(device).type == "cuda":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
