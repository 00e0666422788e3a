"""Precision and recall of two sets of features (Kynkäänniemi et al., 2019).

The manifold of a set is the union of a ball about each of its points, which reaches to the point's k-th nearest
neighbour in the set.

Letters in shapes: N samples, M real examples, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.balls import Balls
from reverie.evaluation.metrics.distances import inside


def share_inside(points: Features, centres: Features, nearest_k: int) -> float:
    """The share of points that lie in the manifold of the centres."""
    count = sum(int(found.any(axis=1).sum()) for _, found in inside(points, centres, nearest_k))
    return count / len(points)


@dataclass(frozen=True)
class Precision(Balls, kind="precision"):
    """The share of samples in the manifold of the real examples (Kynkäänniemi et al., 2019, equation 2)."""

    title = "precision"
    unit = "%"
    place = 30

    nearest_k: int = 3

    def __call__(self, made: Features, real: Features) -> float:
        return share_inside(made, real, self.nearest_k)

    def note(self, n: int, m: int, width: int) -> str:
        return "depends on the number of real examples: compare only at equal numbers, and with the floor"


@dataclass(frozen=True)
class Recall(Balls, kind="recall"):
    """The share of real examples in the manifold of the samples (Kynkäänniemi et al., 2019, equation 2)."""

    title = "recall"
    unit = "%"
    place = 31

    nearest_k: int = 3

    def __call__(self, made: Features, real: Features) -> float:
        return share_inside(real, made, self.nearest_k)

    def note(self, n: int, m: int, width: int) -> str:
        return (
            "depends on the number of samples: compare only at equal numbers, and with the floor; a sample far from "
            "all others has a ball that covers much"
        )
