"""The features of many examples, the same whatever the threads and processes that share the work.

Letters in shapes: N examples, F features, K classes, ... one example.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Features, Opened
from reverie.evaluation.team import Team


def embed(
    opened: Opened,
    items: np.ndarray,
    team: Team | None = None,
    device: torch.device | str = "cpu",
    done: Callable[[int], object] = lambda n: None,
) -> Features:
    """Features, and probabilities where there are any, in the order of the examples.

    Examples are taken `opened.block` at a time, the last block filled up with its own last one. So an example's
    features depend neither on how many follow it nor on who computes them.

    Args:
        opened: the extractor, on `device`.
        items: (N, ...) as data, N at least 1; a memory map is read a block at a time.
        team: the processes that share the work; those of torch.distributed unless given.
        device: where the extractor is.
        done: told how many blocks of this process are finished.
    """
    assert len(items), "no examples"
    team = Team.here() if team is None else team
    starts = range(0, len(items), opened.block)

    def work(start: int) -> tuple[np.ndarray, np.ndarray | None]:
        return _block(opened, items[start : start + opened.block], device)

    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        found = team.map(work, starts, device, done)
    values = [part for part, _ in found]
    probabilities = [part for _, part in found if part is not None]
    found.clear()
    return Features(_joined(values), _joined(probabilities) if probabilities else None)


def blocks(opened: Opened, n: int) -> int:
    """How many blocks `embed` makes of n examples."""
    return -(-n // opened.block)


def aligned(opened: Opened, collection: Collection) -> np.ndarray | None:
    """The labels of a collection (N,), as the extractor numbers the classes that it knows by name.

    None where the collection has none, the extractor names none, or a class among the labels is not one of those.
    """
    if collection.labels is None or not opened.classes:
        return None
    numbers = {name: number for number, name in enumerate(opened.classes)}
    found = np.array([numbers.get(name, -1) for name in collection.classes])[collection.labels]
    return None if (found < 0).any() else found


def _block(opened: Opened, rows: np.ndarray, device: torch.device | str) -> tuple[np.ndarray, np.ndarray | None]:
    filled = np.empty((opened.block, *rows.shape[1:]), rows.dtype)
    filled[: len(rows)], filled[len(rows) :] = rows, rows[-1]
    with torch.inference_mode():
        values, probabilities = opened.both(torch.from_numpy(filled).to(device))
        kept = values[: len(rows)].cpu().numpy()
        return kept, None if probabilities is None else probabilities[: len(rows)].cpu().numpy()


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """One array in float64; parts are let go as they are copied."""
    out = np.empty((sum(map(len, parts)), *parts[0].shape[1:]), np.float64)
    end = len(out)
    while parts:
        part = parts.pop()
        out[end - len(part) : end] = part
        end -= len(part)
    return out
