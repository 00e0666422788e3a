"""What is measured between samples and real examples.

Letters in shapes: N samples, M real examples, F features.
"""

from __future__ import annotations

import abc
from typing import ClassVar, Literal

from reverie import config
from reverie.config import Part, Plain
from reverie.evaluation.extractors.base import Features


class Unfit(ValueError):
    """These sets do not tell what was asked: they are too small, or lack something, as the message says."""


class Metric(Part, abc.ABC, family="metric"):
    """One number about samples beside real examples, a function of their features. A new one is a file in this folder.

    Attributes:
        title: what it is called in tables and plots, such as FID.
        better: which values are better.
        unit: how it is written: "" for a plain number, "%" for a share.
        on: for which extractors it is measured unless asked for: those that are `learned`, the others, or none.
        network: the network in whose features alone it is defined, by its name in `Opened.about`; it is measured there
            unless others are asked for, whatever `on` says.
        needs: what it looks at besides the values of features.
        place: where it stands in a table; the lowest comes first.
    """

    title: ClassVar[str] = ""
    better: ClassVar[Literal["lower", "higher", "neither"]] = "lower"
    unit: ClassVar[Literal["", "%"]] = ""
    on: ClassVar[Literal["learned", "values", "both", "none"]] = "learned"
    network: ClassVar[str] = ""
    needs: ClassVar[tuple[Literal["probabilities", "labels"], ...]] = ()
    place: ClassVar[int] = 100

    @property
    def name(self) -> str:
        """What the number is called in files."""
        return self.kind

    @property
    def protocol(self) -> dict[str, Plain]:
        """What a protocol says of it: its kind and settings."""
        found: dict[str, Plain] = config.to_data(self)
        return found

    def check(self, made: Features, real: Features) -> None:
        """Refuse sets for which it is not defined.

        Raises:
            Unfit: they are too small, or lack labels or probabilities; a sentence that says what would do.
        """
        return

    @abc.abstractmethod
    def __call__(self, made: Features, real: Features) -> float:
        """The number, of sets that `check` accepts; a function of its arguments alone, to the last digit."""

    def note(self, n: int, m: int, width: int) -> str:
        """What a reader must know of the number for N samples, M real examples and F features, such as its bias."""
        return ""
