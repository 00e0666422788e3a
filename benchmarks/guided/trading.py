"""Trade-offs of accuracy and diversity: which way is more accurate where both are as diverse, or the other way about.

A way is a line through its points (diversity, accuracy) at all scales, in their order. Its accuracy at a diversity is
the largest on the line there. Two ways are compared at diversities that both reach, by the mean difference; and so is
their diversity at accuracies that both reach.

Letters in shapes: S scales, R resamplings and, first, none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.guided.judging import Told

LEVELS = 60
"""Diversities, or accuracies, at which two ways are compared."""
CLEAR = 2.0
"""Standard errors from which a difference is said to be one."""


def reached(places: np.ndarray, heights: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The largest height at each level, of a line through (S,) and (S,) points; -inf where the line does not come."""
    a, b = places[:-1, None], places[1:, None]
    inside = (np.minimum(a, b) <= levels) & (levels <= np.maximum(a, b))
    share = np.where(a == b, 0.0, (levels - a) / np.where(a == b, 1.0, b - a))
    height = heights[:-1, None] + share * (heights[1:] - heights[:-1])[:, None]
    return np.where(inside, height, -np.inf).max(0)


def gap(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> float:
    """By how much the first line is higher, mean over the places of both; nan where they have none.

    Args:
        one: places and heights, (S,) each: diversity and accuracy, or accuracy and diversity.
        other: the same.
    """
    low, high = max(one[0].min(), other[0].min()), min(one[0].max(), other[0].max())
    if not low < high:
        return float("nan")
    levels = low + (high - low) * (np.arange(LEVELS) + 0.5) / LEVELS
    return float(np.mean(reached(*one, levels) - reached(*other, levels)))


def gaps(one: Sequence[Told], other: Sequence[Told], of: str = "accuracy", at: str = "diversity") -> np.ndarray:
    """(1 + R,) of `gap` in `of` where `at` is equal, for samples at the scales in turn."""
    (p, h), (q, k) = ([np.stack([getattr(told, name) for told in way]) for name in (at, of)] for way in (one, other))
    return np.array([gap((p[:, r], h[:, r]), (q[:, r], k[:, r])) for r in range(p.shape[1])])
