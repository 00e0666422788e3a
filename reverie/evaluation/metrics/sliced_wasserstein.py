"""Sliced Wasserstein distance: how far the mass must move, seen from many directions (Rabin et al., 2012).

Letters in shapes: N samples, M real examples, F features, P directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric
from reverie.evaluation.metrics.checks import enough, least

TOGETHER = 32
"""Directions done at a time."""


def directions(width: int, count: int, seed: int) -> np.ndarray:
    """(F, P) columns of length 1, each uniform on the sphere, orthogonal to one another in groups of F.

    A group sees every shift alike: the squares of its projections add up to its squared length. One dimension has
    one direction.
    """
    if width == 1:
        return np.ones((1, 1))
    groups = []
    for group in range(math.ceil(count / width)):
        draws = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, group))))
        size = min(width, count - group * width)
        groups.append(np.linalg.qr(draws.standard_normal((width, size)))[0])
    return np.concatenate(groups, axis=1)


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """W_2^2 of each column, (P,): the integral over q in [0, 1] of (a's quantile q - b's)^2.

    Exact for any numbers of points: both quantile functions are steps, and are compared on all steps of both.

    Args:
        a: (N, P).
        b: (M, P).
    """
    n, m = len(a), len(b)
    edges = np.union1d(np.arange(n + 1, dtype=np.int64) * m, np.arange(m + 1, dtype=np.int64) * n)  # q in 1 / (n m)
    starts, weights = edges[:-1], np.diff(edges) / (n * m)
    gaps = np.sort(a, axis=0)[starts // m] - np.sort(b, axis=0)[starts // n]
    found: np.ndarray = weights @ (gaps * gaps)
    return found


@dataclass(frozen=True)
class SlicedWasserstein(Metric, kind="sliced_wasserstein"):
    """(mean over directions of W_2^2 of the projections)^(1/2) (Bonneel et al., 2015, equation 10), in feature units.

    Exact in one dimension. A shift by s alone gives |s| / sqrt(F), for P a multiple of F, or F = 1.

    Raises:
        ValueError: no direction, or a negative seed.
    """

    title = "sliced W₂"
    on = "values"
    place = 60

    count: int = 256
    """P."""
    seed: int = 0
    """Of the directions, which are the same for all sets."""

    def __post_init__(self) -> None:
        least("count", self.count, 1)
        least("seed", self.seed, 0)

    def check(self, made: Features, real: Features) -> None:
        """Refuse an empty set."""
        enough(self.kind, made, real, 1)

    def __call__(self, made: Features, real: Features) -> float:
        along = directions(made.values.shape[1], self.count, self.seed)
        parts = [along[:, i : i + TOGETHER] for i in range(0, along.shape[1], TOGETHER)]
        found = [squared_distances(made.values @ part, real.values @ part) for part in parts]
        return math.sqrt(float(np.concatenate(found).mean()))

    def note(self, n: int, m: int, width: int) -> str:
        return "biased upward: its square as 1/N + 1/M; compare only at equal numbers, and with the floor"
