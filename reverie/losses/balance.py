"""Whether a loss lets a network learn all noise levels: checks made before training.

Letters in shapes: N quantiles of the times.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.losses.times import Times
from reverie.parameterizations import EDM, Parameterization, Score, V
from reverie.schedules import Schedule
from reverie.tensors import host

QUANTILES = 4096
SHARE = 1 / 2000
RANGE = 3000


def quantiles(times: Times, schedule: Schedule) -> Tensor:
    """(N,), times that stand for equal shares of the examples.

    Raises:
        ValueError: there is no noise at one of them.
    """
    t = times((torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES, schedule)
    if not bool((schedule.sigma(host(t)) > 0).all()):
        raise ValueError(
            f"these times reach t = {float(t.min()):.3g}, where {type(schedule).__name__} has no noise; use "
            f"loss.times.kind=uniform, which stays above loss.times.low"
        )
    return t


def balanced(weight: Tensor) -> bool:
    """Whether enough examples take part: (E W)^2 / E W^2 for weights (N,) that are finite, at least 1 in 2,000."""
    return float(weight.mean() ** 2 / (weight**2).mean()) >= SHARE  # false for a nan


def check_range(times: Times, schedule: Schedule, parameterization: Parameterization) -> None:
    """Refuse a network that would have to put out numbers of too many sizes.

    Let M be the size of the best output for standard normal data, and G the error in v, in units of
    that of knowing nothing, that an error of 1 in the output makes. A network is right to about one
    part in 3,000 of its largest output, whatever the level: measured on a small perceptron after
    4,000 steps, as the error at the worst level is about M G / 3000, M and G the largest over the
    levels. Beyond that, nothing is learned of some levels. `Velocity` on `VE` has 32,000.

    Raises:
        ValueError: M G > 3,000, 1 % of the examples left aside for each.
    """
    mean = getattr(parameterization, "mean", parameterization)
    largest, effect = _range(times, schedule, mean)
    if not largest * effect > RANGE:
        return
    where = "parameterization.mean." if mean is not parameterization else "parameterization."
    remedies: dict[str, Parameterization] = {f"{where}kind=edm": EDM(), f"{where}kind=v": V()}
    if isinstance(mean, Score):
        remedies = {f"{where}per_sigma=true": Score(per_sigma=True), **remedies}
    helping = []
    for say, other in remedies.items():
        largest_then, effect_then = _range(times, schedule, other)
        if largest_then * effect_then <= RANGE:
            helping.append(say)
    raise ValueError(
        f"on {type(schedule).__name__} a network that puts out {mean.kind} has to put out numbers of about "
        f"{largest:.2g} at some levels, and at others an error of {1 / effect:.2g} is as bad as knowing nothing, so "
        f"not all of them would be learned; use {' or '.join(helping) or 'a narrower schedule'}"
    )


def _range(times: Times, schedule: Schedule, parameterization: Parameterization) -> tuple[float, float]:
    """M and G, 1 % of the examples left aside for each."""
    t = quantiles(times, schedule)
    level = schedule.at(t, like=t[:, None])
    x = (level.alpha**2 + level.sigma**2).sqrt()  # a standard deviation of x; the best v of such data is 0
    one, none = (parameterization.decode(torch.full_like(x, v), x, level, schedule).v for v in (1.0, 0.0))
    largest, effect = (none / (one - none)).abs(), (one - none).abs() / x
    return float(largest.flatten().quantile(0.99)), float(effect.flatten().quantile(0.99))
