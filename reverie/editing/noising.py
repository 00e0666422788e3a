"""Up the process: from less noise to more.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from torch import Tensor

from reverie.schedules import Level, Schedule
from reverie.tensors import Noise, combined, number


def noised(level: Level, x0: Tensor, noise: Noise) -> Tensor:
    """alpha x0 + sigma z, (B, ...): x at a level, of the data."""
    return combined([(number(level.alpha), x0), (number(level.sigma), noise(x0))])


def raised(schedule: Schedule, x: Tensor, low: Tensor, high: Tensor, noise: Noise) -> Tensor:
    """x at the time `high`, by the process from x at the time `low` below it."""
    a, b = schedule.at(low, like=x), schedule.at(high, like=x)
    kept = b.alpha / a.alpha
    added = (b.sigma**2 - (kept * a.sigma) ** 2).clamp_min(0).sqrt()
    return combined([(number(kept), x), (number(added), noise(x))])
