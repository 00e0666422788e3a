r"""Are samples closer to what was trained on than to what was not?

As many training as held-out examples are put into one pool, and for every sample the nearest of the pool is found.
Where the model knows nothing of which example is of which half, the halves are exchangeable, and

    share = mean over samples of [the nearest is a training example]

has the law that it has when the halves are dealt anew: a permutation test, exact whatever the model's law is, be it
that of the data or not. It is the three-sample question of Meehan, Chaudhuri and Dasgupta (2020), asked so that where
examples are dense does not matter; of tables it is known as the share of the distance to the closest record.

The same pool answers whether held-out examples are of the law of the training examples at all, without which nothing
follows: its own nearest neighbours are of the same half as often as not (Schilling, 1986; Henze, 1988).

Letters in shapes: S samples, P examples of the pool, B permutations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from reverie.audit.findings import Finding
from reverie.audit.material import PERMUTED, Material, shuffled
from reverie.audit.settings import Settings
from reverie.audit.space import Space
from reverie.audit.statistics import normal_quantile, normal_tail, permutation_p, permutations
from reverie.evaluation.collection import Collection

PART = 500
"""Permutations that are held at a time."""


@dataclass(frozen=True, eq=False)
class Pool:
    """Two halves in one order that says nothing.

    Attributes:
        examples: P of them.
        trained: (P,) which are training examples.
    """

    examples: Collection
    trained: np.ndarray


def pooled(material: Material, settings: Settings) -> Pool:
    """As many training as held-out examples, of which there must be some."""
    assert material.held_out is not None
    first, second = material.halves(settings)
    items = np.concatenate([material.training.items[first], material.held_out.items[second]])
    order = shuffled(len(items), settings.seed, PERMUTED, 1)
    examples = replace(material.training, items=items[order], labels=None, classes=(), captions=(), prompts=())
    return Pool(examples, order < len(first))


def closer(space: Space, material: Material, pool: Pool, settings: Settings) -> Finding:
    """The share of samples that are closer to a training than to a held-out example."""
    near = space.near(space.points(material.made), pool.examples, 2)
    hits = np.bincount(near.index[:, 0], minlength=len(pool.trained)) / len(near.index)
    share = float(hits[pool.trained].sum())
    drawn = np.concatenate([block @ hits for block in dealt(settings, len(pool.trained))])
    p = permutation_p(share - settings.tolerance, drawn)
    half = normal_quantile(0.975) * math.sqrt(float((hits * hits).sum())) / 2
    note = f"to one of {int(pool.trained.sum())} training examples rather than to one of as many held-out ones"
    return Finding(
        "closer", "samples closer to training than to held-out examples", share, len(near.index), space.name, 0.5,
        max(0.0, share - half), min(1.0, share + half), p, tolerance=settings.tolerance, unit="%", note=note,
    )  # fmt: skip


def alike(space: Space, pool: Pool, settings: Settings) -> Finding:
    """Whether held-out examples are of the training examples' law: how often a neighbour is of the same half."""
    rows = np.arange(len(pool.trained))
    nearest = space.near(space.points(pool.examples), pool.examples, 1, rows).index[:, 0]
    share = float((pool.trained == pool.trained[nearest]).mean())
    drawn = np.concatenate([(block == block[:, nearest]).mean(1) for block in dealt(settings, len(rows), 1)])
    p = normal_tail((share - float(drawn.mean())) / float(drawn.std()))
    half = normal_quantile(0.975) * float(drawn.std())
    return Finding(
        "alike", "training and held-out examples, told apart by neighbours", share, len(rows), space.name,
        float(drawn.mean()), max(0.0, share - half), min(1.0, share + half), p, unit="%",
        note="well above one half, held-out examples are of another law, and say nothing of the model",
    )  # fmt: skip


def dealt(settings: Settings, size: int, use: int = 0) -> Iterator[np.ndarray]:
    """(B, P) halves dealt anew, in parts that memory holds."""
    for start in range(0, settings.permutations, PART):
        number = min(PART, settings.permutations - start)
        yield permutations(number, size, settings.seed, PERMUTED, 2, use, start)
