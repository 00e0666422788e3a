"""Which examples are guided at a level, and what they are led away from.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from reverie.conditioning import APART, Cond
from reverie.schedules import Schedule
from reverie.tensors import host

Interval = tuple[float, float]
"""Noise levels sigma / alpha, above the first and up to the second."""

FIELDS = {
    "label": ("label",),
    "vector": ("vector",),
    "text": ("tokens", "mask", "pooled", "words"),
    "image": ("image",),
}
"""The fields of a `Cond` by which each of `APART` is told."""


@dataclass(frozen=True)
class Contrast:
    """Guidance at all levels and away from no condition, unless told otherwise.

    Raises:
        ValueError: an interval without length or below 0, or a negative condition that tells nothing.
    """

    interval: Interval | None = None
    """Where to guide: sigma / alpha above the first number and up to the second (Kynkaanniemi et al., 2024)."""
    negative: Cond | None = None
    """One row, or one for each example, in the place of no condition."""

    def __post_init__(self) -> None:
        check_interval(self.interval)
        if self.negative is not None and not self.negative.given():
            raise ValueError("a negative condition tells what to be led away from; given one that tells nothing")

    @property
    def by_row(self) -> bool:
        """Whether each example has a negative condition of its own."""
        return self.negative is not None and _rows(self.negative) > 1

    def inside(self, schedule: Schedule, t: Tensor) -> Tensor | None:
        """Whether t, () or (B,), lies in the interval: bool, on the host; None where there is none."""
        if self.interval is None:
            return None
        t = host(t)
        ratio = schedule.sigma(t) / schedule.alpha(t)  # infinite where alpha is 0, as it should be
        return (ratio > self.interval[0]) & (ratio <= self.interval[1])

    def pair(self, cond: Cond, batch: int) -> tuple[Cond, Cond]:
        """The condition, and what an example is led away from: the same dropped, or the negative one.

        The negative condition tells its own parts alone, all others are dropped. Both are given the same
        fields, so that they fit one batch: what is told by one of them only is dropped in the other.

        Raises:
            ValueError: a negative condition of more rows than there are examples.
        """
        if self.negative is None:
            return cond, cond.null(batch)
        negative = replace(repeated(self.negative, batch), estimate=cond.estimate)
        return _lent(cond, negative, batch), _lent(negative, cond, batch)


def check_interval(interval: Interval | None) -> None:
    """Refuse an interval of noise levels that holds none.

    Raises:
        ValueError: unless 0 <= low < high.
    """
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError(f"an interval of sigma / alpha is (low, high), 0 <= low < high; given {tuple(interval)}")


def guided_rows(cond: Cond, inside: Tensor | None, like: Tensor) -> Tensor | None:
    """Where something is told and the level is one to guide at, (B,) bool; None: everywhere.

    Args:
        cond: the conditions, of which some may be dropped.
        inside: (), (B,) or None, as `Contrast.inside` gives it.
        like: (B, ...), on the device of the answer.
    """
    told = None
    if cond.drop is not None:
        parts = cond.parts() or APART
        hidden = [cond.hidden(part) for part in parts]
        told = ~torch.stack([h for h in hidden if h is not None]).all(0)
    if inside is None or bool(inside.all()):
        return told
    within = inside.to(like.device).expand(len(like))
    return within if told is None else within & told


def repeated(cond: Cond, batch: int) -> Cond:
    """The conditions of r examples for `batch` of them: row i is that of example i % r.

    A batch may be filled up with its first examples, or be several times the same ones, and each keeps its own.

    Raises:
        ValueError: more rows than examples.
    """
    rows = _rows(cond)
    if rows == batch:
        return cond
    if rows > batch:
        raise ValueError(f"a negative condition has one row, or one for each of the {batch} examples; given {rows}")
    return cond.map(lambda v: v[torch.arange(batch, device=v.device) % rows])


def _rows(cond: Cond) -> int:
    """How many examples a condition is of."""
    return next(len(v) for v in (getattr(cond, f.name) for f in fields(cond)) if v is not None)


def _lent(cond: Cond, other: Cond, batch: int) -> Cond:
    """The condition with those parts, dropped, that only the other one tells."""
    missing = [part for part in other.parts() if part not in cond.parts()]
    level = other.level if cond.level is None else cond.level
    if not missing:
        return replace(cond, level=level)
    lent = {name: getattr(other, name) for part in missing for name in FIELDS[part]}
    return replace(cond, level=level, **lent).without(batch, *missing)
