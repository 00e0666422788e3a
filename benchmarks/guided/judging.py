"""Accuracy and diversity of samples, with errors.

The judge is a small convolutional network that the benchmark trains on real digits; it guides nothing. Samples of
one number share their noise in all ways and at all scales, and the errors are those of drawing such numbers again,
within each class (the bootstrap; Efron, 1979): differences have the errors of paired samples.

Letters in shapes: N samples, K classes, M samples of a class, F features, R resamplings and, first, none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reverie.data import Examples, Split
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Classifier, Features
from reverie.evaluation.extractors.embedding import embed
from reverie.evaluation.metrics import from_names
from reverie.evaluation.team import Team, one_thread

AGAIN = 400
"""R."""


@dataclass(frozen=True, eq=False)
class Told:
    """Of a set of digits: (1 + R,) each, the first of all of them and the others resampled."""

    accuracy: np.ndarray
    diversity: np.ndarray
    """Trace of the covariance of the features within a class, mean over the classes; relative to real digits."""
    pixels: np.ndarray
    """The same of pixels."""
    kid: float
    """To real digits, in the same features."""

    @property
    def row(self) -> dict[str, float]:
        """Values, and standard errors."""
        found = {"kid": self.kid}
        for name in ("accuracy", "diversity", "pixels"):
            value = getattr(self, name)
            found |= {name: float(value[0]), f"{name}_error": error(value)}
        return found


def error(values: np.ndarray) -> float:
    """The standard error of the first of (1 + R,) values."""
    return float(np.std(values[1:], ddof=1))


class Judge:
    """Learns from the training digits; what it says of others is told beside the held-out ones."""

    def __init__(self, examples: Examples, split: Split) -> None:
        every = Collection(examples.items, True, "digits", {}, examples.labels, examples.classes)
        self.real, self.known = every.take(split.validation), every.take(split.train)
        self.opened = Classifier().open(self.known)
        self._features = self._seen(self.real.items)
        counts, (self._kid,) = counted(_labels(self.real), 0), from_names("kid")
        both = (self._features.values, _pixels(self.real.items))
        self._scales = [float(within(values, counts, _labels(self.real))[0]) for values in both]

    def __call__(self, items: np.ndarray, labels: np.ndarray) -> Told:
        """Of digits (N, 1, 8, 8) uint8 asked to be of the classes `labels` (N,)."""
        found, counts = self._seen(items), counted(labels, AGAIN)
        assert found.probabilities is not None
        right = found.probabilities.argmax(1) == labels
        both = (found.values, _pixels(items))
        spread = [within(v, counts, labels) / scale for v, scale in zip(both, self._scales, strict=True)]
        return Told(counts @ right / len(labels), spread[0], spread[1], self._kid(found, self._features))

    def _seen(self, items: np.ndarray) -> Features:
        with one_thread():
            return embed(self.opened, items, Team())


def _pixels(items: np.ndarray) -> np.ndarray:
    """(N, F), in [0, 1]."""
    return items.reshape(len(items), -1) / 255


def _labels(some: Collection) -> np.ndarray:
    assert some.labels is not None
    return some.labels


def counted(labels: np.ndarray, again: int) -> np.ndarray:
    """How often each example counts, (1 + R, N): once; and drawn as many times from its class as that has examples."""
    random = np.random.Generator(np.random.Philox(0))  # the same for all samples of a number: they are paired
    out = np.ones((1 + again, len(labels)))
    for k in np.unique(labels):
        rows = np.flatnonzero(labels == k)
        out[1:, rows] = random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=again)
    return out


def within(values: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Trace of the covariance of (N, F) within a class, the mean over the classes: (1 + R,)."""
    traces = []
    for k in np.unique(labels):
        x, c = values[labels == k], counts[:, labels == k]
        x = x - x.mean(0)
        m = len(x)
        mean = c @ x / m
        traces.append((c @ (x**2).sum(1) / m - (mean**2).sum(1)) * m / (m - 1))
    return np.mean(traces, axis=0)
