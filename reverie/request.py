"""What is asked of a denoiser: how many samples, from which noise, under which condition.

Letters in shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from reverie.conditioning import APART, Cond
from reverie.prompts import Asked


@dataclass(frozen=True)
class Request:
    """Samples `start`, `start` + 1, ... of `seed`, one for each entry of `labels`.

    Sample i draws all its noise from a stream keyed by (seed, i), so it is the same in any batch. For
    solvers of an SDE that stream is a Brownian path, so more steps refine the same sample.

    Raises:
        ValueError: no samples asked for, or a negative seed, start or batch.
    """

    labels: tuple[int | None, ...]
    """The class of each sample, None for no condition."""
    seed: int = 0
    start: int = 0
    batch: int | None = None
    """How many at a time; None for a number that fits memory."""
    cond: Cond | Asked | None = None
    """What each sample is asked to be, a row each, on the CPU, where that is more than its class."""
    negative: Cond | None = None
    """What guidance leads away from, in the place of no condition: one row, or, with images, one for each sample."""
    texts: tuple[str, ...] = ()
    """The text of each sample, for whoever writes them; none where there are no texts."""
    names: tuple[str, ...] = ()
    """What each sample is asked to be that not all are, in a few words; none where they are all the same."""
    remarks: tuple[str, ...] = ()
    """Sentences for who asked, of what will not be read or is like nothing in training: see `reverie.prompts`."""

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("a request is for at least 1 sample; given labels of none")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"samples are drawn in a batch of at least 1; given {self.batch}")
        if self.seed < 0 or self.start < 0:
            raise ValueError(f"seed and start must be at least 0; given seed={self.seed}, start={self.start}")

    def condition(self, rows: Sequence[int] | slice, device: torch.device | str) -> Cond | None:
        """The condition of some of the samples, numbered from 0, on a device."""
        labels = self.labels[rows] if isinstance(rows, slice) else [self.labels[i] for i in rows]
        if self.cond is None:
            return _for_guide(condition(labels, device), labels, bool(self.texts), device)
        index = rows if isinstance(rows, slice) else torch.tensor(rows)
        return _for_guide(self.cond[index].to(device), labels, bool(self.texts), device)

    def part(self, first: int, last: int) -> Request:
        """Samples `first` to `last` - 1 of this request, as one of their own."""
        away, cond = self.negative, self.cond
        if away is not None and away.image is not None and len(away.image) > 1:
            away = away[first:last]
        if cond is not None:
            cond = cond.part(first, last) if isinstance(cond, Asked) else cond[first:last]
        return replace(
            self, labels=self.labels[first:last], start=self.start + first, negative=away,
            cond=cond, texts=self.texts[first:last], names=self.names[first:last],
        )  # fmt: skip


def condition(labels: Sequence[int | None], device: torch.device | str) -> Cond | None:
    """The condition for these labels: None stands for no condition."""
    if all(label is None for label in labels):
        return None
    dropped = [label is None for label in labels]
    drop = torch.tensor(dropped, device=device) if any(dropped) else None
    return Cond(label=torch.tensor([label or 0 for label in labels], device=device), drop=drop)


def _for_guide(cond: Cond | None, labels: Sequence[int | None], texts: bool, device: torch.device | str) -> Cond | None:
    """With what the guide alone reads: labels besides a condition of other things, and texts beside classes.

    A class that is not asked for hides no text then.
    """
    if cond is None:
        return None
    known = cond.parts()
    named = "label" not in known and any(label is not None for label in labels)
    beside = texts and "text" not in known and cond.drop is not None and cond.drop.ndim == 1
    if not named and not beside:
        return cond
    hidden = {part: cond.hidden(part) if part in known else None for part in APART}
    if named:
        hidden["label"] = torch.tensor([label is None for label in labels], device=device)
        cond = replace(cond, label=torch.tensor([label or 0 for label in labels], device=device))
    nowhere = torch.zeros(len(labels), dtype=torch.bool, device=device)
    return replace(cond, drop=torch.stack([nowhere if v is None else v for v in hidden.values()], 1))
