"""Modes: does each group of real examples have its share of the samples?

The groups are the classes of the real examples where they are labelled, else clusters of them. A sample is of the
group of the real example, or the centre of a cluster, that is nearest to it.

Letters in shapes: N samples, M real examples, F features, G groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reverie.data.base import groups as equal
from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric, Unfit
from reverie.evaluation.metrics.checks import enough, least
from reverie.evaluation.metrics.distances import nearest
from reverie.evaluation.metrics.once import once

RARE = 4.0
"""A group that should hold fewer of the samples than this says nothing when it holds none."""
STARTS = 4
"""Of the search for clusters, the best of which is taken."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of real examples.

    Attributes:
        points: (A, F), by the nearest of which a sample is of a group.
        of: (A,) int64 in [0, G), the group of each.
        shares: (G,), of the real examples, of sum 1.
    """

    points: np.ndarray
    of: np.ndarray
    shares: np.ndarray


def groups(real: Features, clusters: int) -> Groups:
    """The classes of labelled real examples, else clusters."""
    return once(real, ("groups", clusters), lambda: _groups(real, clusters))


def _groups(real: Features, clusters: int) -> Groups:
    if real.labels is not None:
        of = np.unique(real.labels, return_inverse=True)[1].astype(np.int64)
        return Groups(real.values, of, np.bincount(of) / len(of))
    from sklearn.cluster import KMeans

    centres = KMeans(clusters, n_init=STARTS, random_state=0).fit(real.values).cluster_centers_
    counts = np.bincount(nearest(real.values, centres), minlength=clusters)
    return Groups(centres, np.arange(clusters), counts / len(real))


def shares(made: Features, among: Groups) -> np.ndarray:
    """The share of each group in the samples, (G,)."""
    found = among.of[nearest(made.values, among.points)]
    return np.bincount(found, minlength=len(among.shares)) / len(made)


def check_groups(name: str, made: Features, real: Features, clusters: int) -> None:
    """Refuse sets too small to fill the groups.

    Raises:
        Unfit: fewer real examples than clusters, or so few samples that no group should hold `RARE` of them.
    """
    enough(name, made, real, 1)
    if real.labels is None and once(real, "distinct", lambda: len(set(equal(real.values).tolist()))) < clusters:
        raise Unfit(f"{name} looks for {clusters} clusters of different real examples; there are fewer than that")
    expected = float(groups(real, clusters).shares.max()) * len(made)
    if expected < RARE:
        raise Unfit(
            f"{name} needs more samples than {len(made):,}: the largest group should hold {expected:.1f} of them, and "
            f"a group of fewer than {RARE:g} is left out"
        )


@dataclass(frozen=True)
class Modes(Metric, kind="modes"):
    """The share of groups that hold at least `part` of the samples which their share of the real examples promises.

    Groups that should hold fewer than 4 samples are left out.

    Raises:
        ValueError: fewer than 2 clusters, or a part that is not in (0, 1].
    """

    title = "modes covered"
    better = "higher"
    unit = "%"
    on = "both"
    place = 70

    part: float = 0.25
    """Of the expected number of samples."""
    clusters: int = 20
    """Groups to look for in real examples without labels."""

    def __post_init__(self) -> None:
        least("clusters", self.clusters, 2)
        if not 0 < self.part <= 1:
            raise ValueError(f"part must be in (0, 1]; given {self.part}")

    def check(self, made: Features, real: Features) -> None:
        """Refuse sets too small to fill the groups."""
        check_groups(self.kind, made, real, self.clusters)

    def __call__(self, made: Features, real: Features) -> float:
        among = groups(real, self.clusters)
        counted = among.shares * len(made) >= RARE
        return float((shares(made, among) >= self.part * among.shares)[counted].mean())

    def note(self, n: int, m: int, width: int) -> str:
        return "groups are the classes of the real examples where these are labelled, else clusters of them"


@dataclass(frozen=True)
class ModeBalance(Metric, kind="mode_balance"):
    """Total variation between the shares of the groups: half the sum of |share of samples - share of real examples|.

    The share of samples that would have to change group.

    Raises:
        ValueError: fewer than 2 clusters.
    """

    title = "mode imbalance"
    unit = "%"
    on = "both"
    place = 71

    clusters: int = 20
    """Groups to look for in real examples without labels."""

    def __post_init__(self) -> None:
        least("clusters", self.clusters, 2)

    def check(self, made: Features, real: Features) -> None:
        """Refuse sets too small to fill the groups."""
        check_groups(self.kind, made, real, self.clusters)

    def __call__(self, made: Features, real: Features) -> float:
        among = groups(real, self.clusters)
        return float(np.abs(shares(made, among) - among.shares).sum() / 2)

    def note(self, n: int, m: int, width: int) -> str:
        typical = math.sqrt((1 / n + 1 / m) / (2 * math.pi))
        return f"biased upward: perfect samples get about {typical:.1%} times the root of the number of groups less one"
