"""Examples that are judged, or that others are judged by.

Letters in shapes: N examples, K classes, C channels, H height, W width, ... one example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from reverie.config import Plain
from reverie.data import Data
from reverie.prompts import Prompt


@dataclass(frozen=True, eq=False)
class Collection:
    """Examples of one kind, and where they are from.

    Attributes:
        items: (N, C, H, W) uint8 with C of 1, 3 or 4 when `image`, else (N, ...) float32.
        image: whether they are pictures.
        source: what they are, in a few words: a path, or of which run.
        about: how they were made or chosen, as the protocol tells it.
        labels: (N,) int64 in [0, K), or None: the class of each, for samples the one asked for.
        classes: K names; empty when there are no labels.
        captions: N texts; empty when there are none.
        data: the kind of data that real examples are from, for what it brings of its own; None where it is unknown.
        prompts: of examples of a run's data, what its model is told of each, where that is more than a class.
    """

    items: np.ndarray
    image: bool
    source: str
    about: Mapping[str, Plain] = field(default_factory=dict)
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    data: Data | None = None
    prompts: tuple[Prompt, ...] = ()

    def __post_init__(self) -> None:
        """Check what this package promises about its own values."""
        assert not self.image or (self.items.dtype == np.uint8 and self.items.ndim == 4)
        assert (self.labels is None) == (not self.classes)
        assert self.labels is None or self.labels.shape == (len(self.items),)
        assert len(self.captions) in (0, len(self.items))
        assert len(self.prompts) in (0, len(self.items))

    def __len__(self) -> int:
        """N."""
        return len(self.items)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return tuple(self.items.shape[1:])

    @cached_property
    def digest(self) -> str:
        """A hash of items and labels, which numbers are measured of; captions have their own."""
        found = hashlib.sha256(f"{self.items.shape} {self.items.dtype} {self.classes}".encode())
        for item in self.items:
            found.update(np.ascontiguousarray(item).data)
        if self.labels is not None:
            found.update(np.ascontiguousarray(self.labels).data)
        return found.hexdigest()[:16]

    @cached_property
    def captions_digest(self) -> str:
        """A hash of the captions."""
        return hashlib.sha256("\0".join(self.captions).encode()).hexdigest()[:16]

    def captioned(self) -> Collection:
        """Those that have a caption; all where none has one."""
        return self.take(np.flatnonzero([bool(text) for text in self.captions])) if any(self.captions) else self

    def take(self, rows: np.ndarray | Sequence[int] | slice) -> Collection:
        """Some of the examples, in this order."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        rows = np.asarray(rows, np.int64)
        return replace(
            self,
            items=self.items[rows],
            labels=None if self.labels is None else self.labels[rows],
            captions=tuple(self.captions[i] for i in rows) if self.captions else (),
            prompts=tuple(self.prompts[i] for i in rows) if self.prompts else (),
        )
