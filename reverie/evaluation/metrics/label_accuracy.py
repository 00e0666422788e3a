"""Accuracy of the requested class: does a sample show what was asked for?"""

from __future__ import annotations

from dataclasses import dataclass

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric, Unfit
from reverie.evaluation.metrics.checks import enough


@dataclass(frozen=True)
class LabelAccuracy(Metric, kind="label_accuracy"):
    """The share of samples whose most probable class, by the extractor, is the one that was asked for."""

    title = "label accuracy"
    better = "higher"
    unit = "%"
    needs = ("probabilities", "labels")
    place = 80

    def check(self, made: Features, real: Features) -> None:
        """Refuse features without probabilities, and samples without labels."""
        enough(self.kind, made, real, 1)
        if made.probabilities is None:
            raise Unfit("label_accuracy needs an extractor that tells classes apart; this one gives no probabilities")
        if made.labels is None:
            raise Unfit(
                "label_accuracy needs the class that each sample was asked to be of, among those of the extractor"
            )

    def __call__(self, made: Features, real: Features) -> float:
        assert made.probabilities is not None
        return float((made.probabilities.argmax(axis=1) == made.labels).mean())

    def note(self, n: int, m: int, width: int) -> str:
        return (
            "as the extractor sees them: its mistakes on real examples are in the floor; where it learnt from all the "
            "real examples there are, there is no floor, and its accuracy on those held back from it is in the protocol"
        )
