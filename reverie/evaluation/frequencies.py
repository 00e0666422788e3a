"""Classes as often as in real examples: a model told each class alike is beside data that are not, worse than it is.

Letters in shapes: N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reverie.evaluation.collection import Collection


def in_proportion(counts: Sequence[int], n: int) -> tuple[int, ...]:
    """(N,) classes, each prefix of them with frequencies as near to those of the counts (K,) as whole numbers can be.

    >>> in_proportion([1, 1, 1], 5)
    (0, 1, 2, 0, 1)
    >>> in_proportion([3, 0, 1], 8)
    (0, 0, 2, 0, 0, 0, 2, 0)
    """
    share = np.asarray(counts, np.float64) / sum(counts)
    given, found = np.zeros(len(share)), []
    for i in range(n):
        chosen = int(np.argmax(np.where(share > 0, share * (i + 1) - given, -np.inf)))
        given[chosen] += 1
        found.append(chosen)
    return tuple(found)


def counts_in(real: Collection, classes: Sequence[str]) -> tuple[int, ...] | None:
    """(K,) how often each of these classes occurs; None where the examples are not all of them."""
    if real.labels is None or not len(real) or not set(real.classes) <= set(classes):
        return None
    found = np.zeros(len(classes), np.int64)
    numbers = np.array([classes.index(name) for name in real.classes])
    np.add.at(found, numbers[real.labels], 1)
    return tuple(int(count) for count in found)
