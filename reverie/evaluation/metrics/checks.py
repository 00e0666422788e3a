"""What a metric asks of two sets of features before it measures anything."""

from __future__ import annotations

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Unfit


def enough(name: str, made: Features, real: Features, least: int, why: str = "", instead: str = "") -> None:
    """Refuse sets that are too small for a metric, or whose features are not finite numbers of one width.

    Args:
        name: the kind of the metric.
        made: of the samples.
        real: of the real examples.
        least: how many each set needs.
        why: ends the clause that says so.
        instead: what could be measured all the same.

    Raises:
        Unfit: a set is too small, or has features that are infinite or no numbers.
        ValueError: the sets have features of different widths.
    """
    if made.values.shape[1:] != real.values.shape[1:]:
        raise ValueError(
            f"{name} compares features of one extractor; given {made.values.shape[1:]} and {real.values.shape[1:]}"
        )
    if min(len(made), len(real)) < least:
        raise Unfit(
            f"{name} needs at least {least:,} samples and as many real examples{why and f', {why}'}; "
            f"given {len(made):,} and {len(real):,}{instead and f'; {instead}'}"
        )
    for what, found in (("samples", made), ("real examples", real)):
        wrong = int((~np.isfinite(found.values).all(axis=1)).sum())
        if wrong:
            raise Unfit(f"{name} needs finite features; {wrong:,} of {len(found):,} {what} have others")


def least(name: str, value: float, bound: float) -> None:
    """Refuse a setting of a metric that is too small.

    Raises:
        ValueError: it is.
    """
    if not value >= bound:
        raise ValueError(f"{name} must be at least {bound}; given {value}")
