"""Columns of a table as attributes of examples: which are kinds, which are numbers, and which are neither.

A column is what more than half of its known values are:

| values | attribute |
|---|---|
| texts, 2 to `MOST` different ones or one for `SHARE` examples, and one for 2 examples | a kind, classes sorted |
| true and false | a kind of the classes `false` and `true` |
| numbers, not all the same | (N, 1) float32 |
| lists of D numbers, not all the same | (N, D) float32 |

Values that are missing, null, NaN or blank are unknown, and so is a value of another sort than its column, which is
named. Other columns are left out: free text, what is the same everywhere, objects, lists of other things.

Letters in shapes: N examples, K classes, D numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.data.base import Attribute, Skipped
from reverie.data.metadata import shown, writable

MOST, SHARE = 64, 10
"""A column of texts is a kind with so many classes, or with more where so many examples share one on average."""

WORDS = {"text": "texts", "truth": "truths", "number": "numbers", "other": "lists of other things, or objects"}
"""What the values of a column are."""


@dataclass(frozen=True)
class Cell:
    """A value of one example, None where it is not known, and the file and line that it stands in."""

    value: Any = None
    where: str = ""


@dataclass(frozen=True)
class LeftOut(Skipped):
    """A column that is no attribute, and why; nothing is wrong with it."""


@dataclass(frozen=True, eq=False)
class Made:
    """Attributes, values that are wrong, and columns that are left out."""

    attributes: tuple[Attribute, ...]
    troubles: tuple[Skipped, ...]
    left_out: tuple[LeftOut, ...]


def attributes(columns: Mapping[str, Sequence[Cell]]) -> Made:
    """What columns of N values each are.

    Args:
        columns: by their names; the attributes keep their order.
    """
    made: list[Attribute] = []
    troubles: list[Skipped] = []
    left_out: list[LeftOut] = []
    for name, cells in columns.items():
        found = _attribute(name, cells)
        if isinstance(found, str):
            left_out.append(LeftOut(f"column {shown(name)}", found))
            continue
        made.append(found[0])
        troubles += found[1]
    return Made(tuple(made), tuple(troubles), tuple(left_out))


def kind(name: str, texts: Sequence[str | None]) -> Attribute:
    """An attribute of classes, the different texts, sorted; None is unknown.

    >>> kind("style", ["oil", None, "ink"]).values.tolist()
    [1, -1, 0]
    """
    classes = sorted({text for text in texts if text is not None})
    numbers = {text: number for number, text in enumerate(classes)}
    values = np.array([-1 if text is None else numbers[text] for text in texts], np.int64)
    return Attribute(name, values, tuple(classes))


def of_array(name: str, values: np.ndarray, count: int) -> Attribute:
    """An array that is said to be an attribute.

    Args:
        name: of the array.
        values: (N,) texts or truths, of a kind; (N,) or (N, D) numbers; blank texts and NaN are unknown.
        count: N, of the examples.

    Raises:
        ValueError: it has another shape, holds nothing that is known, or infinite numbers.
    """
    what = f"the attribute {name!r}"
    wide = 2 if values.dtype.kind in "iuf" else 1
    if values.dtype.kind not in "USbiuf" or not 1 <= values.ndim <= wide or len(values) != count or values.size == 0:
        raise ValueError(
            f"{what} is {values.dtype} {values.shape}; expected ({count},) texts or truths, "
            f"or ({count},) or ({count}, D) numbers"
        )
    if values.dtype.kind in "USb":
        texts = [_name(value) for value in values.tolist()]
        if not any(texts):
            raise ValueError(f"{what} holds nothing but blank texts")
        return kind(name, texts)
    with np.errstate(over="ignore"):
        made = np.array(values, np.float32).reshape(count, -1)
    if np.isinf(made).any():
        row = int(np.flatnonzero(np.isinf(made).any(1))[0])
        raise ValueError(f"{what} has values that are infinite in float32, the first in row {row}; NaN is for unknown")
    if np.isnan(made).all():
        raise ValueError(f"{what} holds nothing but NaN")
    return Attribute(name, made)


def _name(value: str | bytes | bool) -> str | None:
    """The class of a value; None where it is blank."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    return (text.lower() if isinstance(value, bool) else text.strip()) or None


def _attribute(name: str, cells: Sequence[Cell]) -> tuple[Attribute, list[Skipped]] | str:
    """The attribute that a column is, with what is wrong in it; or why it is none."""
    sorts = [_sort(cell.value) for cell in cells]
    counts = Counter(sort for sort in sorts if sort)
    if not name.strip() or not writable(name):
        return "it has no name"
    if not counts:
        return "no value is known"
    (sort, count), known = counts.most_common(1)[0], counts.total()
    if 2 * count <= known:
        return f"its values are of several sorts, {', '.join(_said(s) for s in sorted(counts))}"
    if sort == "other":
        return f"its values are {_said(sort)}"
    values = [cell.value if found == sort else None for cell, found in zip(cells, sorts, strict=True)]
    odd = [
        Skipped(cell.where, f"{shown(name)} is {shown(cell.value)} where most are {_said(sort)}; it counts as unknown")
        for cell, found in zip(cells, sorts, strict=True)
        if found not in ("", sort)
    ]
    made = _kinds(name, values) if sort in ("text", "truth") else _numbers(name, values)
    return made if isinstance(made, str) else (made, odd)


def _sort(value: object) -> str:
    """What a value is: a text, truth or number, a list of so many numbers, other; '' for nothing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, int | float):
        return "number" if _finite(value) else "other"
    if isinstance(value, str):
        return "" if not value.strip() else "text" if writable(value) else "other"
    if isinstance(value, list) and value and all(_sort(v) in ("", "number") and not isinstance(v, str) for v in value):
        return f"list of {len(value)}"
    return "other"


def _said(sort: str) -> str:
    return WORDS.get(sort) or f"lists of {sort.removeprefix('list of ')} numbers"


def _finite(value: float) -> bool:
    """Whether float32 can hold it."""
    try:
        return abs(float(value)) <= float(np.finfo(np.float32).max)
    except OverflowError:
        return False


def _kinds(name: str, values: Sequence[str | bool | None]) -> Attribute | str:
    """Texts or truths as classes, where they are few enough to learn."""
    made = kind(name, [None if v is None else _name(v) for v in values])
    known, classes = int((made.values >= 0).sum()), len(made.classes)
    if classes == 1:
        return f"every value is {shown(made.classes[0])}"
    if classes > 2 and (classes > max(MOST, known // SHARE) or 2 * classes > known):
        return f"free text, {classes:,} different ones in {known:,} values"
    return made


def _numbers(name: str, values: Sequence[Any]) -> Attribute | str:
    """Numbers, or lists of as many, as an array."""
    wide = next(len(v) if isinstance(v, list) else 1 for v in values if v is not None)
    rows = [[None] * wide if v is None else v if isinstance(v, list) else [v] for v in values]
    made = np.array(rows, np.float64).astype(np.float32)  # None becomes NaN
    if all(len(np.unique(column[~np.isnan(column)])) < 2 for column in made.T):
        return "every value is the same"
    return Attribute(name, made)
