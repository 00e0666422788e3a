"""An attribute as a model knows it: the numbers that stand for its values.

Letters in shapes: N examples, B batch, K classes, D numbers of an attribute, E numbers that a network reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from reverie.data import Attribute

Value = int | tuple[float, ...]
"""Of one sample: the number of a kind, or D numbers in their own units."""


@dataclass(frozen=True)
class Known:
    """One attribute of a run's data, as it was in training.

    A kind of K classes is K + 1 numbers, a 1 in the place of its class or, where it is not known, in the last. A
    linear map of them is a row of a table. D numbers are 2 D: each (v - mean) / std, or 0 where it is not known,
    and behind them a 1 for each that is known.

    Attributes:
        name: such as `style`.
        classes: K names; empty for numbers.
        mean: D of them, over the training split.
        std: D of them; 1 for numbers that are all the same.
    """

    name: str
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def of(cls, attribute: Attribute, rows: np.ndarray) -> Known:
        """As these rows, the training split, have it."""
        if attribute.classes:
            return cls(attribute.name, attribute.classes)
        values = attribute.values[rows].astype(np.float64)
        known = ~np.isnan(values)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, values, 0).sum(0) / count
        std = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / count)
        low, high = (np.where(known, values, edge) for edge in (np.inf, -np.inf))
        std[low.min(0, initial=np.inf) >= high.max(0, initial=-np.inf)] = 1  # their std may be what is left of rounding
        return cls(attribute.name, (), tuple(mean.tolist()), tuple(std.tolist()))

    @property
    def width(self) -> int:
        """E, numbers that stand for a value."""
        return len(self.classes) + 1 if self.classes else 2 * len(self.mean)

    def numbers(self, values: np.ndarray) -> np.ndarray:
        """(B, E) float32 for `Attribute.values` of B examples."""
        if self.classes:
            return np.eye(self.width, dtype=np.float32)[values]  # -1, not known, is the last row
        known = ~np.isnan(values)
        scaled = np.where(known, (values - np.array(self.mean)) / np.array(self.std), 0)
        return np.concatenate([scaled, known], 1).astype(np.float32)

    def known(self, values: np.ndarray) -> np.ndarray:
        """(B,) bool for `Attribute.values` of B examples: where anything of it is known."""
        found: np.ndarray = values >= 0 if self.classes else ~np.isnan(values).all(1)
        return found

    @property
    def unknown(self) -> np.ndarray:
        """(E,), what stands for a value that is not known."""
        if self.classes:
            return self.numbers(np.array([-1]))[0]
        return np.zeros(self.width, np.float32)

    def value(self, given: object) -> Value | None:
        """What a user says, as a value; None for none of it.

        Args:
            given: the name or number of a class, one number or D of them, as they are or as text with commas.

        Raises:
            ValueError: there is no such class, or it is no such numbers.
        """
        if given is None:
            return None
        return self._class(given) if self.classes else self._numbers(given)

    def _class(self, given: object) -> int:
        if isinstance(given, str) and given in self.classes:
            return self.classes.index(given)
        number = given if isinstance(given, Integral) or (isinstance(given, str) and given.isdecimal()) else -1
        if 0 <= int(number) < len(self.classes):
            return int(number)
        shown = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
        raise ValueError(f"unknown {self.name} {given!r}; it is one of: {shown}")

    def _numbers(self, given: object) -> tuple[float, ...]:
        parts: Sequence[object]
        if isinstance(given, str):
            parts = given.split(",")
        else:
            parts = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
        try:
            found = tuple(float(v) for v in parts)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            found = ()
        if len(found) != len(self.mean) or not all(map(math.isfinite, found)):
            wanted = "a finite number" if len(self.mean) == 1 else f"{len(self.mean)} finite numbers"
            raise ValueError(f"{self.name} is {wanted}; given {given!r}")
        return found

    def said(self, value: Value) -> str:
        """A value, for people: the name of a class, or numbers or a truth behind the name of the attribute."""
        if isinstance(value, tuple):
            return f"{self.name} {', '.join(f'{v:.4g}' for v in value)}"
        truth = self.classes == ("false", "true")
        return f"{self.name} {self.classes[value]}" if truth else self.classes[value]

    def in_words(self) -> str:
        """For people: its classes, or mean and standard deviation of its numbers."""
        if self.classes:
            return ", ".join(self.classes[:12]) + (", ..." if len(self.classes) > 12 else "")
        shown = ", ".join(f"{m:.4g} ± {s:.4g}" for m, s in zip(self.mean[:4], self.std[:4], strict=True))
        return shown + (", ..." if len(self.mean) > 4 else "")
