"""What every diagnosis gives: numbers for programs, a row or more for a table, and a sentence."""

from __future__ import annotations

import abc
import math
from dataclasses import asdict, dataclass

from torch import Tensor

Row = tuple[str, str, str]
"""What was measured, what was seen, and what it should be or is to be read beside."""


class Unmeasured(Exception):  # no fault
    """There is nothing to measure, such as without held-out examples, or it takes too long; the message says why."""


@dataclass(frozen=True)
class Found(abc.ABC):
    """What a diagnosis found."""

    def line(self) -> dict[str, object]:
        """Every number, as it goes into JSON."""
        return asdict(self)

    @property
    @abc.abstractmethod
    def faulty(self) -> bool:
        """Whether that is at fault."""

    @property
    @abc.abstractmethod
    def seen(self) -> str:
        """The numbers, in short."""

    @property
    @abc.abstractmethod
    def words(self) -> str:
        """What they mean and, where something is at fault, what to do: a sentence."""

    @abc.abstractmethod
    def rows(self) -> tuple[Row, ...]:
        """The numbers, line by line."""


def pm(value: float, error: float | None) -> str:
    """A value and its standard error, in short.

    >>> pm(0.12345, 0.00213), pm(0.5, None)
    ('0.1235 ± 0.0021', '0.5')
    """
    return f"{value:.4g}" if error is None else f"{value:.4g} ± {error:.2g}"


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Of N independent values: their mean, and its standard error s / sqrt(N); 0 of a single one."""
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), error
