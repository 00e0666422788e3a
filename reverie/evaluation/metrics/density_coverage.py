"""Density and coverage of two sets of features (Naeem et al., 2020).

Both look at balls about the real examples alone, each as far as its k-th nearest other real example, so that a stray
sample gains nothing.

Letters in shapes: N samples, M real examples, F features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.balls import Balls
from reverie.evaluation.metrics.distances import inside


def expected_coverage(n: int, m: int, nearest_k: int) -> float:
    """The mean coverage of N samples of the very law of the M real examples, whatever that law is, if continuous.

    A real example stays uncovered when the k nearest to it of all others are real ones: among M - 1 + N points in
    random order the first k are. (For N = M: Naeem et al., 2020, equation 7.)
    """
    return 1 - math.prod((m - 1 - i) / (m - 1 + n - i) for i in range(nearest_k))


@dataclass(frozen=True)
class Density(Balls, kind="density"):
    """In how many balls about real examples a sample lies, over k (Naeem et al., 2020, equation 3).

    1 / (k N) sum over samples j and real examples i of 1[y_j in ball of x_i]
    """

    title = "density"
    place = 40

    nearest_k: int = 5

    def __call__(self, made: Features, real: Features) -> float:
        hits = sum(int(found.sum()) for _, found in inside(made, real, self.nearest_k))
        return hits / (self.nearest_k * len(made))

    def note(self, n: int, m: int, width: int) -> str:
        return "1 for perfect samples on average; more where samples crowd at the modes of the data"


@dataclass(frozen=True)
class Coverage(Balls, kind="coverage"):
    """The share of real examples whose ball holds a sample (Naeem et al., 2020, equation 4)."""

    title = "coverage"
    unit = "%"
    place = 41

    nearest_k: int = 5

    def __call__(self, made: Features, real: Features) -> float:
        reached = np.zeros(len(real), bool)
        for _, found in inside(made, real, self.nearest_k):
            reached |= found.any(axis=0)
        return float(reached.mean())

    def note(self, n: int, m: int, width: int) -> str:
        return f"perfect samples, as many, get {expected_coverage(n, m, self.nearest_k):.1%} on average"
