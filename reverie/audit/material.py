"""What an audit looks at: samples, what was trained on, and what was held out, made comparable.

Letters in shapes: N training examples, D distinct ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reverie.audit.settings import Settings
from reverie.config import Plain
from reverie.data import groups
from reverie.evaluation.collection import Collection
from reverie.evaluation.given import check_alike, told_of

FEWEST = 10
"""Distinct training examples without which there are no neighbours to speak of."""
HELD_OUT, HALVES, MEMBERS, ATTACKS, PERMUTED, LOOKED_AT, LABELS = 0, 1, 2, 3, 4, 5, 6
"""Keeps the streams of randomness of different uses apart."""


def shuffled(n: int, *key: int) -> np.ndarray:
    """A permutation of n, keyed by integers (Philox; Salmon et al., 2011)."""
    return generator(n, *key).permutation(n)


def generator(*key: int) -> np.random.Generator:
    """A generator of random numbers, keyed by integers."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((len(key), *key))))


@dataclass(frozen=True, eq=False)
class Material:
    """Samples, distinct training examples, and held-out examples that are none of them.

    Attributes:
        made: the samples.
        training: D distinct examples.
        held_out: distinct examples that are not in training; None where none were given.
        rows: (D,) where each distinct training example first stands among those given.
        copies: (D,) how often it stands there.
        overlap: held-out examples left out because they are training examples too.
        alone: (D,) training examples that occur once there and not among the held-out ones, and the same of
            `held_out`. Of these, and of no others, it is chance on which side they are, whatever the split was made by.
        told: what the protocol says of all three.
    """

    made: Collection
    training: Collection
    held_out: Collection | None
    rows: np.ndarray
    copies: np.ndarray
    overlap: int
    alone: tuple[np.ndarray, np.ndarray]
    told: dict[str, Plain]

    @property
    def controls(self) -> int:
        """Held-out examples."""
        return 0 if self.held_out is None else len(self.held_out)

    @property
    def table(self) -> bool:
        """Whether examples are records: numbers in one row."""
        return not self.made.image and len(self.made.shape) == 1

    def halves(self, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
        """Rows of `training` and of `held_out` that stand alone, as many of either, chosen at random."""
        own, others = (np.flatnonzero(mask) for mask in self.alone)
        m = min(len(own), len(others), settings.most)
        first = own[shuffled(len(own), settings.seed, HALVES)[:m]]
        second = others[shuffled(len(others), settings.seed, HALVES, 1)[:m]]
        return np.sort(first), np.sort(second)

    @property
    def hits(self) -> float:
        """The chance that a draw of the data's law is identical to a training example that occurs once.

        By how many occur twice (Good, 1953, "The population frequencies of species", equation 9): 0 where examples
        never repeat, as measurements and photographs do not.
        """
        return min(1.0, 2 * float((self.copies == 2).sum()) / float(self.copies.sum()))


def prepared(made: Collection, training: Collection, held_out: Collection | None, settings: Settings) -> Material:
    """Check what is given, and make it comparable.

    Identical training examples are counted and one of them kept; held-out examples that were trained on, or that
    occur twice, are left out.

    Raises:
        ValueError: examples of another shape or kind, fewer than 2 samples, or too few training examples.
    """
    check_alike(made, training, "the samples")
    if held_out is not None:
        check_alike(held_out, training, "the held-out examples")
    if len(made) < 2:
        raise ValueError(f"an audit needs at least 2 samples; {made.source} has {len(made)}")
    for given in (made, training, *([] if held_out is None else [held_out])):
        if not given.image and not np.isfinite(given.items).all():
            raise ValueError(f"{given.source} holds numbers that are not finite; leave those examples out")
    rows, copies = np.unique(groups(training.items), return_counts=True)
    if len(rows) < FEWEST:
        raise ValueError(
            f"an audit needs at least {FEWEST} distinct training examples; {training.source} has {len(rows)}"
        )
    distinct = training if len(rows) == len(training) else training.take(rows)
    control, overlap, shared, once = None, 0, np.zeros(len(rows), bool), np.zeros(0, bool)
    if held_out is not None:
        control, overlap, shared, once = _apart(held_out, distinct, settings)
    told: dict[str, Plain] = {
        "samples": told_of(made),
        "training": {**told_of(training), "distinct": len(rows)},
        "held_out": None if held_out is None or control is None else {
            **told_of(held_out), "used": len(control), "also_in_training": overlap,
        },
    }  # fmt: skip
    return Material(made, distinct, control, rows, copies, overlap, (_alone(copies, shared, once), once), told)


def _alone(copies: np.ndarray, shared: np.ndarray, once: np.ndarray) -> np.ndarray:
    """(D,) training examples that occur once there, and not among the held-out ones.

    By chance they are about as many, of as many, as those of the held-out ones that occur once. Where they are far
    fewer, training examples were given among the held-out ones, which says nothing of the data.
    """
    alone: np.ndarray = (copies == 1) & ~shared
    return alone if 4 * alone.sum() >= once.sum() else copies == 1


def _apart(
    held_out: Collection, training: Collection, settings: Settings
) -> tuple[Collection, int, np.ndarray, np.ndarray]:
    """Distinct held-out examples that are not in training, how many were; which training ones; which occur once."""
    n = len(training)
    group = groups(np.concatenate([training.items, held_out.items]))
    others, times = group[n:], np.bincount(group[n:], minlength=n + len(held_out))
    kept = np.flatnonzero(others == np.arange(n, n + len(held_out)))
    if len(kept) > settings.most:
        kept = np.sort(kept[shuffled(len(kept), settings.seed, HELD_OUT)[: settings.most]])
    return held_out.take(kept), int((others < n).sum()), times[:n] > 0, times[n + kept] == 1
