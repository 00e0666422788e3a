"""What metrics of manifolds share: balls about the points of a set, which reach to the k-th nearest neighbour in it.

Letters in shapes: N samples, M real examples, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric
from reverie.evaluation.metrics.checks import enough, least


@dataclass(frozen=True)
class Balls(Metric):
    """A metric of such balls.

    Raises:
        ValueError: no neighbour.
    """

    better = "higher"

    nearest_k: int
    """The neighbour that a ball reaches to."""

    def __post_init__(self) -> None:
        least("nearest_k", self.nearest_k, 1)

    def check(self, made: Features, real: Features) -> None:
        """Refuse a set without as many neighbours."""
        enough(self.kind, made, real, self.nearest_k + 1)
