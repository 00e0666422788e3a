"""FID: the Fréchet distance of the Gaussians with the moments of two sets of features (Heusel et al., 2017).

    d^2 = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr (C1 C2)^(1/2)          (Dowson and Landau, 1982)

With C = R^T R for both, the eigenvalues of C1 C2 are the squares of the singular values of R1 R2^T, hence
tr (C1 C2)^(1/2) is the sum of those singular values: no root of a matrix, no complex number, nothing to regularise.
R comes from the examples by a QR decomposition, which never squares them.

Letters in shapes: N samples, M real examples, F features, A rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric
from reverie.evaluation.metrics.checks import enough
from reverie.evaluation.metrics.once import once

TOGETHER = 4096
"""Examples, at least, in one decomposition: a copy of all of them would fill the memory."""

Moments = tuple[np.ndarray, np.ndarray]
"""Mean (F,) and R (A, F) with the covariance R^T R."""


def moments(values: np.ndarray) -> Moments:
    """Of a set (N, F): its mean, and R of min(N, F) rows with R^T R the unbiased covariance."""
    mean = values.mean(axis=0)
    root, size = np.empty((0, values.shape[1])), max(TOGETHER, 4 * values.shape[1])
    for start in range(0, len(values), size):
        root = np.asarray(np.linalg.qr(np.concatenate([root, values[start : start + size] - mean]), mode="r"))
    return mean, root / math.sqrt(len(values) - 1)


def distance(first: Moments, second: Moments) -> float:
    """d^2 of two Gaussians, at least 0."""
    (m1, r1), (m2, r2) = first, second
    shared = np.linalg.svd(r1 @ r2.T, compute_uv=False).sum()
    found = ((m1 - m2) ** 2).sum() + (r1 * r1).sum() + (r2 * r2).sum() - 2 * shared
    return max(float(found), 0.0)


def frechet(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two Gaussians (Dowson and Landau, 1982, equation 4).

    Args:
        mean1: (F,).
        cov1: (F, F), symmetric, with no negative eigenvalue but for rounding.
        mean2: (F,).
        cov2: (F, F).
    """

    def root(cov: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(cov)
        return np.sqrt(values.clip(0))[:, None] * vectors.T

    return distance((mean1, root(cov1)), (mean2, root(cov2)))


def expected_bias(cov: np.ndarray, n: int, m: int) -> float:
    """What N samples and M real examples of one Gaussian law get on average, to first order in 1/N and 1/M.

        (1/N + 1/M) (5/4 tr C + 1/2 sum over i, j of l_i l_j / (l_i + l_j)),   l the eigenvalues of C

    tr C comes from the means; the rest is the second order of d^2 in the fluctuations of the two covariances, whose
    entries have variances l_i l_j / N, twice that on the diagonal. For equal eigenvalues it is
    (1/N + 1/M) tr C (F + 5) / 4, and of all spectra of one trace these give the most. Chong and Forsyth (2020,
    section 3) argue for the order 1/N for any features.

    Args:
        cov: (F, F), C.
        n: N.
        m: M.
    """
    values = np.linalg.eigvalsh(cov).clip(0)
    sums = values[:, None] + values[None, :]
    products = np.divide(values[:, None] * values[None, :], sums, out=np.zeros_like(sums), where=sums > 0)
    return float((1 / n + 1 / m) * (1.25 * values.sum() + 0.5 * products.sum()))


@dataclass(frozen=True)
class FID(Metric, kind="fid"):
    """The squared Fréchet distance of the Gaussians with the means and covariances of both sets.

    Heusel et al. (2017, equation 6). It sees the first two moments of the features and nothing else.
    """

    title = "FID"
    place = 10

    def check(self, made: Features, real: Features) -> None:
        """Refuse sets whose covariances are singular: with F examples or fewer."""
        width = made.values.shape[1]
        enough("fid", made, real, width + 1, f"more than its {width:,} features", "kid has no such need")

    def __call__(self, made: Features, real: Features) -> float:
        return distance(moments(made.values), once(real, "moments", lambda: moments(real.values)))

    def note(self, n: int, m: int, width: int) -> str:
        share = (width + 5) / 4 * (1 / n + 1 / m)
        return (
            f"biased upward, as 1/N + 1/M: two sets as large of one Gaussian law get up to {share:.2g} times the total "
            "variance of its features; compare only at equal numbers, and with the floor"
        )
