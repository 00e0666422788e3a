"""Two linear maps into one space, in which what belongs together is as correlated as it can be.

Canonical correlation analysis (Hotelling, 1936) with a ridge (Vinod, 1976), each direction weighted by a power of
its correlation (Gong, Ke, Isard and Lazebnik, 2014, section 3.3, where the power is larger). With centred a, b of
covariances Ca, Cb and cross-covariance Cab,

    U S V' = (Ca + r ca I)^(-1/2) Cab (Cb + r cb I)^(-1/2)        ca, cb: the mean of the eigenvalues of Ca, of Cb
    A = (Ca + r ca I)^(-1/2) U S^(1/2)        B = (Cb + r cb I)^(-1/2) V S^(1/2)

It has a closed form, hence no learning rate, no seed and no number of steps.

Letters in shapes: N pairs, F features of one kind, D of the other, R directions of some variance, E directions kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POWER = 0.5
FLAT = 1e-10
"""Share of the largest eigenvalue below which a direction is taken to have no variance."""
WEAK = 1e-6
"""Correlations below it are rounding."""


@dataclass(frozen=True, eq=False)
class Projection:
    """x -> (x - mean) @ matrix, of mean (F,) and matrix (F, E) in float64."""

    mean: np.ndarray
    matrix: np.ndarray


def correlated(a: np.ndarray, b: np.ndarray, ridge: float) -> tuple[Projection, Projection]:
    """The maps A of a (N, F) and B of b (N, D), pair i being row i of both; E is at most the lesser of F and D.

    Args:
        a: features of one kind.
        b: those of the other kind.
        ridge: r, above 0.

    Raises:
        ValueError: all rows of a, or of b, are equal, or nothing in the one goes with anything in the other.
    """
    for each, what in ((a, "first"), (b, "second")):
        if (each == each[0]).all():
            raise ValueError(f"the {what} features are the same for all {len(each)}")
    means = a.mean(0), b.mean(0)
    a, b = a - means[0], b - means[1]
    white_a, white_b = _whitening(a, ridge), _whitening(b, ridge)
    u, s, v = np.linalg.svd((a @ white_a).T @ (b @ white_b) / len(a), full_matrices=False)
    kept = s > WEAK
    if not kept.any():
        raise ValueError("the features have nothing to do with one another")
    scale = s[kept] ** POWER
    return Projection(means[0], white_a @ (u[:, kept] * scale)), Projection(means[1], white_b @ (v[kept].T * scale))


def _whitening(x: np.ndarray, ridge: float) -> np.ndarray:
    """(F, R), the eigenvectors of the covariance of centred x (N, F) over the root of eigenvalue and ridge."""
    n, width = x.shape
    if width <= n:
        values, vectors = np.linalg.eigh(x.T @ x / n)
    else:  # those of the smaller matrix, which has the same eigenvalues but for zeros
        values, vectors = np.linalg.eigh(x @ x.T / n)
    kept = values > FLAT * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    if width > n:
        vectors = x.T @ vectors / np.sqrt(n * values)
    return vectors / np.sqrt(values + ridge * values.sum() / width)
