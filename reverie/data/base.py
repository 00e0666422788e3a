"""What every source of data gives: examples, and which of them are kept for validation.

Letters in shapes: N examples, K classes, C channels, H height, W width, D numbers of an attribute, ... one example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from reverie.config import Part


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, and why, in words."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Attribute:
    """One thing that is known of examples besides what they look like: a kind, or numbers.

    Attributes:
        name: such as `style` or `age`.
        values: (N,) int64 in [-1, K), -1 where it is not known, of a kind; or (N, D) float32, NaN where not known.
        classes: K names; empty for numbers.
    """

    name: str
    values: np.ndarray
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check what this package promises about its own values."""
        if self.classes:
            assert self.values.ndim == 1 and self.values.dtype == np.int64
            assert len(self.values) == 0 or -1 <= self.values.min() <= self.values.max() < len(self.classes)
        else:
            assert self.values.ndim == 2 and self.values.dtype == np.float32


@dataclass(frozen=True, eq=False)
class Examples:
    """Everything that a source holds, decoded, before any split.

    Attributes:
        items: (N, C, H, W) uint8 with C of 1, 3 or 4 when `image`, else (N, ...) float32. It may be a
            read-only memory map.
        labels: (N,) int64 in [0, K), or None.
        classes: K names; empty when there are no labels.
        image: whether the items are pictures.
        skipped: damaged files, in the order of their names.
        sources: N file names, or empty where examples are not files.
        held_out: indices of the official test examples, or None; they are never trained on.
        texts: N captions, '' for an example that has none; empty where no example has one.
        attributes: what else is known of every example.
        troubles: what is wrong with captions and attributes, though no example is left out for it.
        related: (N,) int64, or None; examples of the same number show the same thing, and stay on one side of a split.
        balanced: (N,) int64, or None; an epoch of training has one example of each number, drawn at random.
        origin: what the items were computed of, by which they are known again; their last bits depend on the machine.
    """

    items: np.ndarray
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    image: bool = False
    skipped: tuple[Skipped, ...] = ()
    sources: tuple[str, ...] = ()
    held_out: np.ndarray | None = None
    texts: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    troubles: tuple[Skipped, ...] = ()
    related: np.ndarray | None = None
    balanced: np.ndarray | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        """Check what this package promises about its own values."""
        count = len(self.items)
        assert len(self.texts) in (0, count)
        assert all(len(attribute.values) == count for attribute in self.attributes)
        assert len({attribute.name for attribute in self.attributes}) == len(self.attributes)
        for numbers in (self.related, self.balanced):
            assert numbers is None or (numbers.shape == (count,) and numbers.dtype == np.int64)
        assert not self.image or (self.items.dtype == np.uint8 and self.items.ndim == 4)
        assert (self.labels is None) == (not self.classes)
        if self.labels is not None:
            assert self.labels.shape == (count,) and self.labels.dtype == np.int64
            assert count == 0 or 0 <= self.labels.min() <= self.labels.max() < len(self.classes)
        assert len(self.sources) in (0, count)

    def __len__(self) -> int:
        """N, the number of examples."""
        return len(self.items)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.items.shape[1:])

    def name(self, index: int) -> str:
        """The file of an example, or its number where it has none."""
        return self.sources[index] if self.sources else f"#{index}"


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of the training and of the validation examples: int64, increasing, disjoint."""

    train: np.ndarray
    validation: np.ndarray


@dataclass(frozen=True)
class Distance:
    """A number between samples and real examples that one kind of data alone knows how to take.

    Attributes:
        name: in files.
        title: in tables.
        measure: of the `Data.features` of both, (N, F) and (M, F).
        better: which values are better.
        unit: % for a share in [0, 1].
    """

    name: str
    title: str
    measure: Callable[[np.ndarray, np.ndarray], float]
    better: Literal["lower", "higher"] = "lower"
    unit: Literal["", "%"] = ""


class Data(Part, family="data"):
    """The settings of a source of data: a frozen dataclass that can be stored, and that loads on demand.

    Attributes:
        general: whether the kind takes a path only when no other kind claims it.
    """

    general: ClassVar[bool] = False

    def load(self) -> Examples:
        """Every example, decoded.

        Raises:
            ValueError: there is nothing to load, or it cannot be what the settings say.
        """
        raise NotImplementedError

    def split(self, examples: Examples, validation: float, seed: int) -> Split:
        """Which examples train and which validate; a kind whose examples are related says so here."""
        return split(examples, validation, seed)

    def features(self, items: np.ndarray) -> np.ndarray | None:
        """Features (N, F) of items as data, by which samples of this kind are best judged; None: it has none."""
        return None

    def distances(self) -> tuple[Distance, ...]:
        """Numbers that evaluation takes in these features besides the usual ones."""
        return ()

    @classmethod
    def opens(cls, path: Path) -> Data | None:
        """The settings with which this kind reads an existing file or folder; None: it does not."""
        return None


def groups(items: np.ndarray) -> np.ndarray:
    """For every example, the index of the first one with the same bytes: (N,) int64.

    >>> groups(np.array([[1], [2], [1]])).tolist()
    [0, 1, 0]
    """
    first: dict[bytes, int] = {}
    found = np.empty(len(items), np.int64)
    for index, item in enumerate(items):
        digest = hashlib.blake2b(item.tobytes(), digest_size=16).digest()
        found[index] = first.setdefault(digest, index)
    return found


def joined(group: np.ndarray, related: np.ndarray | None) -> np.ndarray:
    """`groups` whose members are in one of `related`, or in one with some that are, as one: (N,) int64.

    >>> joined(np.array([0, 1, 1, 3]), np.array([7, 7, 8, 9])).tolist()
    [0, 0, 0, 3]
    """
    if related is None:
        return group
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(group)
    first = np.unique(related, return_index=True, return_inverse=True)
    ends = np.concatenate([group, first[1][first[2]]])
    edges = coo_array((np.ones(2 * n, np.int8), (np.tile(np.arange(n), 2), ends)), shape=(n, n))
    number = connected_components(edges, directed=False)[1]
    leader = np.unique(number, return_index=True)[1]
    return leader[number].astype(np.int64)


def one_of_each(examples: Examples, rows: np.ndarray, seed: int) -> np.ndarray:
    """Of rows that show the same thing, or are the same, one that is chosen by chance; in an order of chance.

    What is counted over them is counted over independent examples.

    Args:
        examples: all of them.
        rows: (R,) of theirs.
        seed: of the choice.
    """
    random = np.random.Generator(np.random.Philox(seed))
    shuffled = random.permutation(rows)
    group = joined(groups(examples.items), examples.related)[shuffled]
    return random.permutation(shuffled[np.unique(group, return_index=True)[1]])


def split(examples: Examples, validation: float, seed: int) -> Split:
    """Keep a share of the examples for validation, the same share for the same data and seed.

    Each class gives its share, and every class of two or more distinct examples is on both sides,
    so with many small classes the share is larger than asked. Examples of identical bytes stay on
    one side, and so do those that the source says are related. It depends on nothing but the data and the seed
    (Philox; Salmon et al., 2011).

    Where the source has an official test set, that is the validation set whatever `validation`
    says, and training examples identical to one of its members are on neither side.

    Args:
        examples: N of them.
        validation: the share, in [0, 1); 0 keeps none.
        seed: a non-negative number.

    Raises:
        ValueError: the share is out of range, or fewer than two distinct examples are to be split.
    """
    if not 0 <= validation < 1:
        raise ValueError(f"validation is a share of the data, at least 0 and below 1; given {validation}")
    if seed < 0:
        raise ValueError(f"a seed is at least 0; given {seed}")
    if examples.held_out is None and validation == 0:
        return Split(np.arange(len(examples)), np.empty(0, np.int64))
    group = joined(groups(examples.items), examples.related)
    if examples.held_out is not None:
        held_out = np.unique(examples.held_out)
        train = np.flatnonzero(~np.isin(group, group[held_out]))
        return Split(train, held_out)
    if len(np.unique(group)) < 2:
        raise ValueError(
            f"a validation set needs two distinct examples, one to train on; the data has {len(examples)} "
            f"({'all identical' if len(examples) > 1 else 'too few'}); write train.validation=0 to train on all"
        )
    chosen = np.isin(group, _choose(examples, group, validation, seed))
    return Split(np.flatnonzero(~chosen), np.flatnonzero(chosen))


def _choose(examples: Examples, group: np.ndarray, validation: float, seed: int) -> np.ndarray:
    """The groups, named by their first member, that validate."""
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, len(examples)))))
    leaders, sizes = np.unique(group, return_counts=True)
    shuffled = random.permutation(len(leaders))
    leaders, sizes = leaders[shuffled], sizes[shuffled]
    labels = np.zeros(len(leaders), np.int64) if examples.labels is None else examples.labels[leaders]
    strata = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    quotas = _quotas(np.array([sizes[s].sum() for s in strata]), validation)
    chosen = [
        leaders[stratum[_fill(sizes[stratum], quota)]]
        for stratum, quota in zip(strata, quotas, strict=True)
        if len(stratum) > 1
    ]
    return np.concatenate(chosen) if chosen else leaders[:1]


def _quotas(counts: np.ndarray, validation: float) -> np.ndarray:
    """`validation` of each count in whole examples, which add up (largest remainders), 1 each at least."""
    shares = counts * validation
    quotas = np.floor(shares).astype(np.int64)
    missing = round(float(shares.sum())) - int(quotas.sum())
    quotas[np.argsort(quotas - shares, kind="stable")[: max(0, missing)]] += 1
    return np.clip(quotas, 1, np.maximum(counts - 1, 1))


def _fill(sizes: np.ndarray, quota: int) -> list[int]:
    """Positions of groups, taken in order, that hold at most `quota` examples; the smallest if none do."""
    taken, room = [], int(quota)
    for position, size in enumerate(sizes):
        if size <= room:
            taken.append(position)
            room -= int(size)
    return taken or [int(np.argmin(sizes))]
