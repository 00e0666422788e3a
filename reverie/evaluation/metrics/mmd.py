"""MMD: a kernel distance that takes its scale from the data (Gretton et al., 2012)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric, Unfit
from reverie.evaluation.metrics.checks import enough
from reverie.evaluation.metrics.discrepancy import Bell, squared_mmd
from reverie.evaluation.metrics.distances import squared
from reverie.evaluation.metrics.once import once

LOOKED_AT = 1000
"""Real examples, evenly spread over all of them, whose distances give the bandwidth."""


def bandwidth(real: Features) -> float:
    """The median distance between two real examples (Gretton et al., 2012, section 8), of at most `LOOKED_AT`."""
    return once(real, "bandwidth", lambda: _bandwidth(real.values))


def _bandwidth(values: np.ndarray) -> float:
    some = values[np.unique(np.linspace(0, len(values) - 1, LOOKED_AT).round().astype(np.int64))]
    pairs = squared(some, some)[np.triu_indices(len(some), 1)]
    return math.sqrt(float(np.median(pairs)))


@dataclass(frozen=True)
class MMD(Metric, kind="mmd"):
    """MMD^2 with the Gaussian kernel exp(-|a - b|^2 / (2 s^2)), s the median distance of two real examples.

    Gretton et al. (2012, equation 3), over all pairs, without bias; in [0, 2] but for chance.
    """

    title = "MMD²"
    on = "values"
    place = 61

    def check(self, made: Features, real: Features) -> None:
        """Refuse a set without a pair, and real examples most of which are the same."""
        enough("mmd", made, real, 2)
        if not bandwidth(real) > 0:
            raise Unfit(
                "mmd takes its scale from the median distance of two real examples, and that is 0: most are equal"
            )

    def __call__(self, made: Features, real: Features) -> float:
        return squared_mmd(made, real, Bell(bandwidth(real)))

    def note(self, n: int, m: int, width: int) -> str:
        return "unbiased at any number of samples: that of perfect samples scatters about 0, and may be negative"
