"""Examples as points, and their nearest neighbours.

Letters in shapes: Q queries, N examples searched, F features, K neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Opened
from reverie.evaluation.extractors.embedding import embed
from reverie.evaluation.team import Team

ROWS = 2**23
"""Numbers of the examples searched that are held at a time."""
CHUNK = 256
"""Queries of one part of the work."""
EXACT = 1e-12
"""A squared distance below this share of the squared lengths is rounding."""


@dataclass(frozen=True, eq=False)
class Near:
    """The nearest neighbours of each query, nearest first.

    Attributes:
        distance: (Q, K) root mean square difference of the F features.
        index: (Q, K) the neighbours' rows.
    """

    distance: np.ndarray
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class Space:
    """Features in which distances are measured.

    Attributes:
        name: the kind of the extractor.
        opened: the extractor, ready.
        unit: of distances, in words.
        mirrored: whether an image and its mirror image are the same example.
        taught: whether the features were learned from the training examples, and so know them from others.
    """

    name: str
    opened: Opened
    unit: str
    mirrored: bool = False
    taught: bool = False
    team: Team = Team()  # noqa: RUF009  # a value
    device: torch.device | str = "cpu"

    def points(self, of: Collection) -> np.ndarray:
        """(N, F) float64."""
        return np.ascontiguousarray(embed(self.opened, of.items, self.team, self.device).values, np.float64)

    def near(
        self, queries: np.ndarray, of: Collection, k: int, own: np.ndarray | None = None,
        done: Callable[[float], object] = lambda share: None,
    ) -> Near:  # fmt: skip
        """The K nearest of the examples to each query.

        Args:
            queries: (Q, F) points.
            of: N examples; K of them are found, or all if they are fewer.
            k: K.
            own: (Q,) a row of each query that is no neighbour of it, such as its own; -1 for none.
            done: told what share of the examples has been searched.
        """
        excluded = np.full(len(queries), -1) if own is None else own
        k = min(k, len(of) - (own is not None))
        middle = queries.mean(0)
        shifted = queries - middle
        best = Near(np.full((len(queries), k), np.inf), np.full((len(queries), k), -1))
        for start, points in self._blocks(of):
            best = self._merged(best, shifted, [p - middle for p in points], start, excluded)
            done((start + len(points[0])) / len(of))
        return replace(best, distance=np.sqrt(best.distance / queries.shape[1]))

    def _blocks(self, of: Collection) -> Iterator[tuple[int, list[np.ndarray]]]:
        """Points of parts of the examples, and of their mirror images where they count."""
        size = max(CHUNK, ROWS // self.opened.width)
        for start in range(0, len(of), size):
            part = of.take(slice(start, start + size))
            found = [self.points(part)]
            if self.mirrored:
                found.append(self.points(replace(part, items=np.ascontiguousarray(part.items[..., ::-1]))))
            yield start, found

    def _merged(self, best: Near, queries: np.ndarray, points: list[np.ndarray], start: int, own: np.ndarray) -> Near:
        """The nearest of those found before and of a block that begins at row `start`; distances are squared."""
        k = best.index.shape[1]
        lengths = [(p * p).sum(1) for p in points]

        def part(first: int) -> tuple[np.ndarray, np.ndarray]:
            rows = slice(first, first + CHUNK)
            square = _squares(queries[rows], points[0], lengths[0])
            for p, length in zip(points[1:], lengths[1:], strict=True):
                np.minimum(square, _squares(queries[rows], p, length), out=square)
            inside = own[rows] - start
            hit = np.flatnonzero((inside >= 0) & (inside < square.shape[1]))
            square[hit, inside[hit]] = np.inf
            distance = np.concatenate([best.distance[rows], square], 1)
            chosen = np.argpartition(distance, k - 1, axis=1)[:, :k]
            value = np.take_along_axis(distance, chosen, 1)
            order = np.lexsort((chosen, value), axis=1)
            value, chosen = np.take_along_axis(value, order, 1), np.take_along_axis(chosen, order, 1)
            before = np.take_along_axis(best.index[rows], np.minimum(chosen, k - 1), 1)
            return value, np.where(chosen < k, before, chosen - k + start)

        parts = self.team.map(part, list(range(0, len(queries), CHUNK)))
        return Near(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _squares(queries: np.ndarray, points: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """|a - b|^2, (Q, N); what is left of identical points by rounding is 0."""
    both = (queries * queries).sum(1)[:, None] + lengths
    square: np.ndarray = both - 2 * queries @ points.T
    square[square < EXACT * both] = 0.0
    return square
