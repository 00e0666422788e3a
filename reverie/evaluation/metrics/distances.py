"""Distances between all pairs of two sets, in blocks that fit into memory.

Letters in shapes: A points, B other points, F features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.once import once

CELLS = 1 << 22
"""Pairs in a block: 32 MB of float64."""
CANCELLED = 1e-7
"""Below this share of |a|^2 + |b|^2, a squared distance is computed from the difference, which does not cancel."""


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of `rows`, each of at most `CELLS` pairs with `columns`."""
    size = max(1, CELLS // max(1, columns))
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a_i - b_j|^2, (A, B) float64, of points (A, F) and (B, F); exactly 0 for equal points.

    |a|^2 + |b|^2 - 2 a.b takes one matrix product; pairs in which that cancels are done again from their difference.
    """
    centre = b.mean(axis=0)
    a, b = a - centre, b - centre
    sums = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)[None, :]
    found: np.ndarray = sums - 2 * (a @ b.T)
    rows, columns = np.nonzero(found <= CANCELLED * sums)
    for part in blocks(len(rows), a.shape[1]):
        difference = a[rows[part]] - b[columns[part]]
        found[rows[part], columns[part]] = np.einsum("ij,ij->i", difference, difference)
    return found


def radii(points: Features, nearest_k: int) -> np.ndarray:
    """The squared distance of each point to its k-th nearest other point, (A,)."""
    return once(points, ("radii", nearest_k), lambda: _radii(points.values, nearest_k))


def _radii(values: np.ndarray, nearest_k: int) -> np.ndarray:
    found = np.empty(len(values))
    for part in blocks(len(values), len(values)):
        distances = squared(values[part], values)
        distances[np.arange(part.stop - part.start), np.arange(part.start, part.stop)] = np.inf
        found[part] = np.partition(distances, nearest_k - 1, axis=1)[:, nearest_k - 1]
    return found


def inside(points: Features, centres: Features, nearest_k: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Which points lie in which ball, block by block of the points: a slice and (rows, B) bool.

    The ball about a centre reaches as far as its k-th nearest other centre, the surface included.
    """
    reach = radii(centres, nearest_k)
    for part in blocks(len(points), len(centres)):
        yield part, squared(points.values[part], centres.values) <= reach


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The index of the nearest centre (B, F) for each point (A, F): (A,) int64, the first where several are."""
    parts = [squared(points[part], centres).argmin(axis=1) for part in blocks(len(points), len(centres))]
    return np.concatenate(parts)
