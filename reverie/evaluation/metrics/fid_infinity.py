"""FID of infinitely many examples, from how it falls with their number (Chong and Forsyth, 2020).

Letters in shapes: N samples, M real examples, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric
from reverie.evaluation.metrics.checks import enough
from reverie.evaluation.metrics.fid import Moments, distance, moments
from reverie.evaluation.metrics.once import once

SEED = 29
"""Of the permutation that deals a set into halves."""


@dataclass(frozen=True)
class FIDInfinity(Metric, kind="fid_infinity"):
    """2 FID(N, M) - FID(N/2, M/2): the line through FID at 1 and 2 times the share 1/N + 1/M, at none of it.

    FID(N, M) = FID + b (1/N + 1/M) + smaller terms (Chong and Forsyth, 2020, equation 4). They draw the line through
    15 subsets of the samples, drawn at random, and leave the bias of the real examples; here both sets are halved,
    so both biases go, and FID(N/2, M/2) is the mean of the two disjoint pairs of halves.
    """

    title = "FID∞"
    place = 11

    def check(self, made: Features, real: Features) -> None:
        """Refuse sets whose halves have singular covariances."""
        width = made.values.shape[1]
        why = f"more than its {width:,} features in each half"
        enough("fid_infinity", made, real, 2 * width + 2, why, "kid has no such need")

    def __call__(self, made: Features, real: Features) -> float:
        whole = distance(moments(made.values), once(real, "moments", lambda: moments(real.values)))
        halves = zip(_halves(made), once(real, "moments of halves", lambda: _halves(real)), strict=True)
        return 2 * whole - sum(distance(a, b) for a, b in halves) / 2

    def note(self, n: int, m: int, width: int) -> str:
        return "FID without its bias of the order 1/N + 1/M; that of perfect samples scatters about 0"


def _halves(of: Features) -> list[Moments]:
    """Moments of two disjoint halves, dealt by a permutation that depends on N alone."""
    draws = np.random.Generator(np.random.Philox(np.random.SeedSequence((SEED, len(of)))))
    return [moments(of.values[np.sort(part)]) for part in np.array_split(draws.permutation(len(of)), 2)]
