"""Inception Score: sure of each sample, and different from sample to sample (Salimans et al., 2016)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric, Unfit
from reverie.evaluation.metrics.checks import enough


@dataclass(frozen=True)
class InceptionScore(Metric, kind="inception_score"):
    """exp of the mean of KL(p(class | x) || p(class)), in [1, K] (Salimans et al., 2016, section 4).

    p(class) is the mean over all samples; there is one part, since the spread is that over sets of samples.
    """

    title = "Inception Score"
    better = "higher"
    needs = ("probabilities",)
    place = 50

    def check(self, made: Features, real: Features) -> None:
        """Refuse features without probabilities of classes."""
        enough(self.kind, made, real, 1)
        if made.probabilities is None:
            raise Unfit("inception_score needs an extractor that tells classes apart; this one gives no probabilities")

    def __call__(self, made: Features, real: Features) -> float:
        p = made.probabilities
        assert p is not None
        tiny = np.finfo(np.float64).tiny  # 0 log 0 is 0
        divergences = (p * (np.log(p.clip(tiny)) - np.log(p.mean(axis=0).clip(tiny)))).sum(axis=1)
        return float(np.exp(divergences.mean()))

    def note(self, n: int, m: int, width: int) -> str:
        return (
            "does not look at the real examples (their own is the floor); biased downward at small N; not comparable "
            "with scores of another network, Inception's among them"
        )
