"""Training examples that occur more than once: what a model copies is often what it saw most.

Letters in shapes: Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reverie.audit.findings import Copy, Duplicates
from reverie.audit.material import LOOKED_AT, Material, shuffled
from reverie.audit.neighbours import LOOKED, Nearness
from reverie.audit.settings import Settings
from reverie.audit.space import Space


def twins(space: Space, material: Material, rows: np.ndarray, threshold: float, settings: Settings) -> np.ndarray:
    """(Q,) how many other training examples are to each of `rows` what a near-copy is: `neighbours` at the most.

    A twin is nearer than `threshold` of the median distance to the next nearest, as for samples.
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    training = material.training
    near = space.near(space.points(training.take(rows)), training, settings.neighbours + 1, rows)
    scale = np.median(near.distance[:, 1:], axis=1)
    found: np.ndarray = (near.distance < threshold * scale[:, None]).sum(1)
    return found


def copies(found: Nearness, material: Material, settings: Settings) -> tuple[Copy, ...]:
    """The near-copies, nearest first, each with how often its training example occurs."""
    samples = found.copies
    rows = found.made.index[samples, 0]
    distinct, place = np.unique(rows, return_inverse=True)
    number = twins(found.space, material, distinct, found.threshold, settings)[place]
    return tuple(
        Copy(
            int(sample), int(material.rows[row]), float(found.made.distance[sample, 0]), float(found.ratio[sample]),
            found.space.name, int(material.copies[row]), int(others),
        )
        for sample, row, others in zip(samples, rows, number, strict=True)
    )  # fmt: skip


def duplicates(found: Nearness, copied: Sequence[Copy], material: Material, settings: Settings) -> Duplicates:
    """How often training examples occur, and how many of the near-copies that explains."""
    looked_at = shuffled(len(material.training), settings.seed, LOOKED_AT, 1)[:LOOKED]
    number = twins(found.space, material, np.sort(looked_at), found.threshold, settings)
    explained = sum(copy.copies > 1 or copy.twins > 0 for copy in copied)
    return Duplicates(
        int((material.copies - 1).sum()), float((material.copies > 1).mean()), float((number > 0).mean()),
        len(looked_at), len(copied), explained,
    )  # fmt: skip
