"""Intervals, tails and areas: the statistics that findings are made of.

Letters in shapes: M positives, N negatives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def clopper_pearson(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share of which `count` of n were seen (Clopper and Pearson, 1934).

    Whatever the share p is, the interval holds it with at least the stated probability: its ends are where
    P(K >= count) and P(K <= count), K binomial(n, p), fall to (1 - confidence) / 2.
    """
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, n - count + 1))
    high = 1.0 if count == n else float(beta.ppf(1 - tail, count + 1, n - count))
    return low, high


def wilson(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of a share of which `count` of n were seen, by its score test (Wilson, 1927)."""
    z = normal_quantile((1 + confidence) / 2)
    share, spread = count / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def exceedance(count: int, n: int, k: int, m: int) -> float:
    r"""P(K >= count) for the number K of n values below the k-th smallest of m others of the same law.

        K ~ BetaBinomial(n, k, m + 1 - k)

    The law is exact whatever that of the values is, if it is continuous, and the tail is no smaller with ties when
    only values strictly below are counted: it is that of the ranks of n + m exchangeable values (Wilks, 1942).
    """
    from scipy.stats import betabinom

    if count <= 0:
        return 1.0
    masses = betabinom.pmf(np.arange(count, n + 1), n, k, m + 1 - k)  # its own tail is one less a sum
    return min(1.0, math.fsum(masses))


def least_significant(level: float, n: int, k: int, m: int) -> int | None:
    """The smallest count whose `exceedance` is at most `level`; None where not even n is."""
    if exceedance(n, n, k, m) > level:
        return None
    low, high = 0, n  # significant at high, not at low
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if exceedance(middle, n, k, m) <= level else (middle, high)
    return high


@dataclass(frozen=True)
class Area:
    """P(positive > negative) + P(equal) / 2, with its interval and standard error."""

    value: float
    low: float
    high: float
    error: float


def area(positive: np.ndarray, negative: np.ndarray, confidence: float = 0.95) -> Area:
    """The area under the ROC curve of scores, with its error and interval.

    The error is that of DeLong, DeLong and Clarke-Pearson (1988, eq. 5), the interval symmetric in log odds.
    Scores that do not overlap, or are all equal, show no spread: their interval is that of the score test with the
    variance of Hanley and McNeil (1982, eq. 2; Newcombe, 2006, method 5), their error that half a pair short of 0 or 1.

    Args:
        positive: (M,) scores, at least 2.
        negative: (N,) scores, at least 2.
        confidence: of the interval.
    """
    from scipy.stats import rankdata

    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - rankdata(positive)) / n  # share of the negatives below each positive, ties by half
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    value = float(above.mean())
    variance = float(above.var(ddof=1)) / m + float(below.var(ddof=1)) / n
    z = normal_quantile((1 + confidence) / 2)
    inner = min(max(value, 0.5 / (m * n)), 1 - 0.5 / (m * n))
    if variance == 0:
        high = _score_end(value, m, n, z)
        return Area(value, 1 - _score_end(1 - value, m, n, z), high, math.sqrt(_hanley_mcneil(inner, m, n)))
    error = math.sqrt(variance)
    middle, half = math.log(inner / (1 - inner)), z * error / (inner * (1 - inner))
    return Area(value, _logistic(middle - half), _logistic(middle + half), error)


def _score_end(value: float, m: int, n: int, z: float) -> float:
    """The largest area from which `value` is no further than z standard errors, by bisection."""
    low, high = value, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        near = middle - value <= z * math.sqrt(_hanley_mcneil(middle, m, n))
        low, high = (middle, high) if near else (low, middle)
    return low if value < 1 else 1.0


def _hanley_mcneil(a: float, m: int, n: int) -> float:
    """The variance of an area a of exponential scores."""
    one, two = a / (2 - a), 2 * a * a / (1 + a)
    return (a * (1 - a) + (m - 1) * (one - a * a) + (n - 1) * (two - a * a)) / (m * n)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def normal_quantile(p: float) -> float:
    """z with P(Z <= z) = p for a standard normal Z."""
    from scipy.special import ndtri

    return float(ndtri(p))


def normal_tail(z: float) -> float:
    """P(Z >= z) for a standard normal Z."""
    return math.erfc(z / math.sqrt(2)) / 2


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """p-values adjusted so that those at most a level are wrong together with at most that probability (Holm, 1979).

    >>> [round(q, 2) for q in holm([0.04, 0.01])]
    [0.04, 0.02]
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, largest = [0.0] * len(p), 0.0
    for place, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p) - place) * p[i]))
        adjusted[i] = largest
    return tuple(adjusted)


def permutations(number: int, size: int, *key: int) -> np.ndarray:
    """(number, size) booleans, in each row half of them true at random, keyed by integers."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((len(key), *key))))
    half = np.arange(size) < size // 2
    return random.permuted(np.broadcast_to(half, (number, size)), axis=1)


def permutation_p(observed: float, drawn: np.ndarray) -> float:
    """(1 + how many of the drawn are at least as large) / (1 + how many): never too small (Phipson and Smyth, 2010)."""
    reached = int((drawn >= observed - 1e-12).sum())
    return (1 + reached) / (1 + len(drawn))
