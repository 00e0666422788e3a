"""What is asked of a denoiser: how many samples, from which noise, under which condition.

Letters in shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from reverie.conditioning import APART, Cond
from reverie.prompts import Asked, Prompt

if TYPE_CHECKING:
    from reverie.recipe import Sampling

CANDIDATE = 3
"""Keeps the noise of further candidates for a sample apart from other noise of the same sample."""


class Below(Protocol):
    """A model whose samples condition those of a request, such as the base of a cascade."""

    @property
    def depth(self) -> int:
        """How many models are below it, one below the other."""
        ...

    def __call__(self, part: Request, above: Sampling, device: torch.device) -> Cond:
        """What it adds to the conditions of a part of a request, a row for each sample; they are drawn as `above`."""
        ...


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
    away: Prompt | None = None
    """The same as it was asked, for models below: they lead away from it, too."""
    texts: tuple[str, ...] = ()
    """The text of each sample, for whoever writes them; none where there are no texts."""
    names: tuple[str, ...] = ()
    """What each sample is asked to be that not all are, in a few words; none where they are all the same."""
    embedding: Tensor | None = None
    """(1 or B, E), for a stage below that is told one, in the place of what its prior would make."""
    candidate: int = 0
    """Which of several that are drawn for each sample, of which one will be kept; each has noise of its own."""
    below: tuple[Below, ...] = ()
    """What adds to the conditions of each sample as it is wanted, such as a small picture that is drawn for it."""
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

    @property
    def depth(self) -> int:
        """How many models are below, one below the other."""
        return max((1 + below.depth for below in self.below), default=0)

    @property
    def keys(self) -> list[tuple[int, ...]]:
        """Of each sample's noise: others than those of the samples of a model below, which have the same numbers."""
        behind = (1,) * self.depth + ((CANDIDATE, self.candidate) if self.candidate else ())
        return [(self.seed, self.start + i, *behind) for i in range(len(self.labels))]

    def told(self, sampling: Sampling, device: torch.device, rows: Sequence[Request] = ()) -> Request:
        """With what the models below make for these samples, if there are any, in their conditions.

        Args:
            sampling: of these samples.
            device: where to.
            rows: requests of one sample each, in the place of these samples for the models below; none: these.
        """
        made = self
        for below in self.below:
            found = [vars(below(each, sampling, device)) for each in rows or [self]]
            given = [name for name, value in found[0].items() if value is not None]
            made = made._with({name: torch.cat([each[name] for each in found]) for name in given})
        return made

    def _with(self, own: Mapping[str, Tensor]) -> Request:
        """With more conditions, (B, ...) each; what is hidden before stays so.

        What is led away from is told the same image, without which there is nothing to enlarge, but no embedding: that
        is what is led to.
        """
        told = {name: v.cpu() for name, v in own.items() if name != "drop"}
        cond, away = self.condition(slice(None), "cpu") or Cond(), self.negative
        drop = cond.drop
        if drop is not None and drop.ndim == 1:  # of labels, beside which nothing was told: what is now is not hidden
            drop = drop[:, None] & torch.tensor([name == "label" for name in APART])
        if "drop" in own:
            drop = own["drop"].cpu() if drop is None else own["drop"].cpu() | drop
        shown = {name: told[name] for name in ("image", "level") if name in told}
        if away is not None and shown:
            away = replace(away.map(lambda v: v.expand(len(self.labels), *v.shape[1:])), **shown)
        return replace(self, cond=replace(cond, drop=drop, **told), negative=away)

    def part(self, first: int, last: int) -> Request:
        """Samples `first` to `last` - 1 of this request, as one of their own."""
        away, cond, embedding = self.negative, self.cond, self.embedding
        if embedding is not None and len(embedding) > 1:
            embedding = embedding[first:last]
        if away is not None and away.image is not None and len(away.image) > 1:
            away = away[first:last]
        if cond is not None:
            cond = cond.part(first, last) if isinstance(cond, Asked) else cond[first:last]
        return replace(
            self, labels=self.labels[first:last], start=self.start + first, negative=away,
            cond=cond, embedding=embedding, texts=self.texts[first:last], names=self.names[first:last],
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
