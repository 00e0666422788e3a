"""What is usually told of records: distances to the closest one.

Letters in shapes: S samples, M held-out examples.
"""

from __future__ import annotations

import numpy as np

from reverie.audit.findings import Finding
from reverie.audit.neighbours import Nearness
from reverie.audit.statistics import area


def second_ratio(found: Nearness) -> Finding:
    """The median ratio of the distances to the nearest and the second nearest record trained on (NNDR).

    The interval is that of the median by order statistics. Beside it stands that of held-out records; it decides
    nothing, for the near-copies are judged by more neighbours.
    """
    ratio = np.sort(_ratio(found.made.distance))
    n = len(ratio)
    half = 0.98 * np.sqrt(n)  # 1.96 standard deviations of how many lie below the median
    low, high = ratio[max(0, int(n / 2 - half))], ratio[min(n - 1, int(np.ceil(n / 2 + half)))]
    better = area(-_ratio(found.made.distance), -_ratio(found.control_neighbours))
    note = f"of held-out records {np.median(_ratio(found.control_neighbours)):.3g}; a sample's is the smaller in "
    note += f"{100 * better.value:.3g} % of pairs"
    return Finding(
        "nndr", "distance to the closest record over that to the second", float(np.median(ratio)), n, found.space.name,
        float(np.median(_ratio(found.control_neighbours))), float(low), float(high), note=note,
    )  # fmt: skip


def _ratio(distance: np.ndarray) -> np.ndarray:
    """Of the first two columns; 1 where both are 0."""
    second = distance[:, 1]
    return np.where(second > 0, distance[:, 0] / np.where(second > 0, second, 1.0), 1.0)
