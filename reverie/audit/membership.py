r"""Membership: can it be told from its loss whether an example was trained on?

An example is scored by how low its loss is, standardised at each noise level over all examples and averaged over the
levels, every level alike (chosen before any was looked at). The area under the ROC curve of these scores is the
probability that an example trained on has a higher score than another: one half where the model remembers nothing.
Losses of diffusion models tell members from others (Carlini et al., 2023, section 5; Matsumoto et al., 2023).

Letters in shapes: M examples trained on, N others, L noise levels.
"""

from __future__ import annotations

import numpy as np

from reverie.audit.findings import Finding
from reverie.audit.material import MEMBERS, Material, shuffled
from reverie.audit.settings import Settings
from reverie.audit.statistics import area, normal_tail
from reverie.evaluation.collection import Collection


def members(material: Material, settings: Settings) -> tuple[Collection, Collection]:
    """Training and held-out examples whose losses are compared: such as stand alone in all that was given."""
    assert material.held_out is not None
    found = []
    for use, examples in enumerate((material.training, material.held_out)):
        rows = np.flatnonzero(material.alone[use])
        number = min(settings.members, max(material.controls, settings.least))
        found.append(examples.take(np.sort(rows[shuffled(len(rows), settings.seed, MEMBERS, use)[:number]])))
    return found[0], found[1]


def scores(train: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (M,) and (N,) of losses (M, L) and (N, L)."""
    both = np.concatenate([train, held_out])
    spread = both.std(0)
    found = -((both - both.mean(0)) / np.where(spread > 0, spread, 1.0)).mean(1)
    return found[: len(train)], found[len(train) :]


def membership(train: np.ndarray, held_out: np.ndarray, leak: float) -> Finding:
    """The area under the ROC curve, and whether it is more than `leak` beyond one half."""
    found = area(*scores(train, held_out))
    p = normal_tail((found.value - 0.5 - leak) / found.error)
    return Finding(
        "membership", "membership told by the loss (AUC)", found.value, len(train) + len(held_out), "", 0.5,
        found.low, found.high, p, tolerance=leak, unit="%",
        note=f"how often one of {len(train)} training examples has a lower loss than one of {len(held_out)} others",
    )  # fmt: skip
