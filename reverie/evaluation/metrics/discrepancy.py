"""The squared maximum mean discrepancy of two sets, without bias (Gretton et al., 2012, equation 3).

    MMD^2 = mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j)

Letters in shapes: N samples, M real examples, A and B points, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.distances import blocks, squared
from reverie.evaluation.metrics.once import once

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(A, F) and (B, F) -> (A, B). Equal kernels compare equal, so that what is known of a set under one is found again."""


@dataclass(frozen=True)
class Cubic:
    """(a.b / F + 1)^3, the kernel of KID (Bińkowski et al., 2018, section 4)."""

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        products = a @ b.T / a.shape[1] + 1
        found: np.ndarray = products * products * products
        return found


@dataclass(frozen=True)
class Bell:
    """exp(-|a - b|^2 / (2 bandwidth^2)), the Gaussian kernel."""

    bandwidth: float

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.exp(squared(a, b) / (-2 * self.bandwidth**2))
        return found


def squared_mmd(made: Features, real: Features, kernel: Kernel) -> float:
    """MMD^2 of all N (N - 1) / 2, M (M - 1) / 2 and N M pairs; it may be negative."""
    total = sum(float(kernel(made.values[part], real.values).sum()) for part in blocks(len(made), len(real)))
    return _within(made, kernel) + _within(real, kernel) - 2 * total / (len(made) * len(real))


def _within(points: Features, kernel: Kernel) -> float:
    """The mean of the kernel over pairs of different points."""
    return once(points, ("mean of pairs", kernel), lambda: _mean_of_pairs(points.values, kernel))


def _mean_of_pairs(values: np.ndarray, kernel: Kernel) -> float:
    count, total = len(values), 0.0
    for part in blocks(count, count):
        found = kernel(values[part], values[part.start :])
        size = part.stop - part.start
        total += float(found[:, size:].sum()) + float(np.triu(found[:, :size], 1).sum())
    return 2 * total / (count * (count - 1))
