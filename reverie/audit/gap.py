"""How much lower losses are for examples trained on, by noise level.

Letters in shapes: M examples trained on, N others, L noise levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from reverie.audit.findings import Finding, Level
from reverie.audit.statistics import area, holm, normal_quantile, normal_tail


def levels(t: Sequence[float], train: np.ndarray, held_out: np.ndarray) -> tuple[Level, ...]:
    """Mean losses, their gap and the area at each level, of losses (M, L) and (N, L)."""
    gaps = held_out.mean(0) - train.mean(0)
    errors = np.sqrt(train.var(0, ddof=1) / len(train) + held_out.var(0, ddof=1) / len(held_out))
    areas = [area(-train[:, i], -held_out[:, i]) for i in range(len(t))]
    p = holm([normal_tail((a.value - 0.5) / a.error) for a in areas])
    return tuple(
        Level(t[i], float(train[:, i].mean()), float(held_out[:, i].mean()), float(gaps[i]), float(errors[i]),
              areas[i].value, areas[i].low, areas[i].high, p[i])
        for i in range(len(t))
    )  # fmt: skip


def gap(train: np.ndarray, held_out: np.ndarray) -> Finding:
    """By what share the mean loss of held-out examples is above that of training examples.

    The error is that of the ratio of two means to first order. Levels count alike, as in training.
    """
    own, other = train.mean(1), held_out.mean(1)
    mean, theirs = float(own.mean()), float(other.mean())
    error = math.sqrt(float(other.var(ddof=1)) / len(other) + (theirs / mean) ** 2 * float(own.var(ddof=1)) / len(own))
    half = normal_quantile(0.975) * error / abs(mean)
    value = (theirs - mean) / abs(mean)
    note = f"mean loss {mean:.4g} of training examples, {theirs:.4g} of held-out ones"
    return Finding(
        "gap", "held-out loss above training loss", value, len(own) + len(other), "", 0.0, value - half, value + half,
        unit="%", note=note,
    )  # fmt: skip
