"""KID: the kernel distance of two sets of features (Bińkowski et al., 2018)."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric
from reverie.evaluation.metrics.checks import enough
from reverie.evaluation.metrics.discrepancy import Cubic, squared_mmd


@dataclass(frozen=True)
class KID(Metric, kind="kid"):
    """MMD^2 with the kernel (a.b / F + 1)^3 over all pairs (Bińkowski et al., 2018, section 4), without bias.

    Nothing is left to chance: it is the mean that averages over random subsets estimate.
    """

    title = "KID"
    place = 20

    def check(self, made: Features, real: Features) -> None:
        """Refuse a set without a pair."""
        enough("kid", made, real, 2)

    def __call__(self, made: Features, real: Features) -> float:
        return squared_mmd(made, real, Cubic())

    def note(self, n: int, m: int, width: int) -> str:
        return "unbiased at any number of samples: that of perfect samples scatters about 0, and may be negative"
