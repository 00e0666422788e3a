r"""Which noise levels, how many, and which Langevin step: the five techniques of NCSNv2.

Song & Ermon (2020), "Improved techniques for training score-based generative models", section by section:

    1  the largest level is the largest distance between two examples    `largest_distance`
    2  neighbouring levels overlap by about a half                       `level_ratio`, `geometric_levels`
    3  the network's output is divided by sigma, its only sign of it     the parameterization `Score`, per sigma
    4  a step that leaves a level at its own variance                    `langevin_step`
    5  samples are drawn with averaged weights                           every run's EMA

`reverie.schedules.Geometric` with `from_data` puts 1 and 2 to use,
`reverie.samplers.AnnealedLangevin` 4.

Letters in shapes: N examples of a data set, D numbers in one, ... the shape of one.
"""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from reverie.tensors import generator

MOST = 5000
"""Examples among which every distance is looked at; of a larger data set so many are drawn."""
BLOCK = 2**24
"""Numbers in a block of examples, 128 MiB in float64."""


def largest_distance(data: Tensor, seed: int = 0) -> float:
    """max |x_i - x_j| over data (N, ...) as the model sees them: technique 1.

    Exact up to N = 5000; beyond, that of 5000 examples drawn with `seed`, a lower bound.

    Raises:
        ValueError: fewer than two examples.
    """
    if len(data) < 2:
        raise ValueError(f"a distance needs at least 2 examples; given {len(data)}")
    if len(data) > MOST:
        data = data[torch.randperm(len(data), generator=generator(seed))[:MOST].to(data.device)]
    flat = data.flatten(1)
    rows = min(1024, max(BLOCK // flat.shape[1], 1))
    largest, first, second = -1.0, 0, 0
    for i, j in combinations_with_replacement(range(0, len(flat), rows), 2):
        found = torch.cdist(flat[i : i + rows].double(), flat[j : j + rows].double())
        place = int(found.argmax())
        if float(found.flatten()[place]) > largest:
            largest = float(found.flatten()[place])
            first, second = i + place // found.shape[1], j + place % found.shape[1]
    return float((flat[first].double() - flat[second].double()).norm())  # cdist rounds more


def level_overlap(ratio: float, dimension: int) -> float:
    r"""The probability that noise at one level is as long as that at the next larger one tends to be.

        Phi(sqrt(2 D) (g - 1) + 3 g) - Phi(sqrt(2 D) (g - 1) - 3 g)

    In D = `dimension` numbers the length of noise of standard deviation sigma is close to N(sqrt(D)
    sigma, sigma^2 / 2); this is the probability that it lies within three standard deviations of the
    mean at g sigma, g = `ratio` (Song & Ermon, 2020, section 3.2).
    """
    place = math.sqrt(2 * dimension) * (ratio - 1)
    low, high = (place - 3 * ratio) / math.sqrt(2), (place + 3 * ratio) / math.sqrt(2)
    return (math.erfc(low) - math.erfc(high)) / 2


def level_ratio(dimension: int, overlap: float = 0.5) -> float:
    """The ratio g > 1 of neighbouring levels with `level_overlap(g, dimension) = overlap`: technique 2.

    "Approximately 0.5", says the paper; its own levels overlap by 0.567, on each of its data sets. On
    CIFAR-10 they are 232 from 0.01 to 50, g = 1.0376, where 0.5 gives 220, g = 1.0398.

    Raises:
        ValueError: unless 0 < overlap < 0.997, what equal levels have; a dimension below 5, in which
            levels overlap whatever their ratio.
    """
    if not 0 < overlap < level_overlap(1.0, dimension):
        raise ValueError(f"levels overlap by more than 0 and less than 0.997; given overlap={overlap}")
    if dimension < 5:
        raise ValueError(
            f"the rule for the ratio of noise levels is for high dimensions, at least 5; with {dimension} numbers in "
            f"an example levels overlap whatever their ratio: set schedule.from_data=false, and schedule.high and "
            f"schedule.levels yourself"
        )
    low, high = 1.0, 2.0
    while level_overlap(high, dimension) > overlap:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if level_overlap(middle, dimension) > overlap else (low, middle)
    return (low + high) / 2


def geometric_levels(low: float, high: float, dimension: int, overlap: float = 0.5) -> int:
    """How many levels from `low` to `high` in a geometric progression overlap by at least so much: technique 2.

    The fewest with a ratio no larger than `level_ratio(dimension, overlap)`; both ends are levels.

    Raises:
        ValueError: unless 0 < low < high; as for `level_ratio`.
    """
    if not 0 < low < high:
        raise ValueError(f"noise levels need 0 < low < high; given low={low}, high={high}")
    return 1 + math.ceil(math.log(high / low) / math.log(level_ratio(dimension, overlap)) - 1e-9)


def langevin_variance(step: float, ratio: float, steps: int) -> float:
    r"""The variance, in units of sigma^2, after `steps` Langevin steps at sigma from ratio^2 sigma^2.

        (1 - e)^(2 T) (g^2 - B) + B,    B = 2 e / (1 - (1 - e)^2) = 2 / (2 - e)

    for data that are a point, e = `step` relative to sigma^2, g = `ratio`, T = `steps`: Song & Ermon
    (2020), eq. 4.
    """
    settled = 2 / (2 - step)
    return (1 - step) ** (2 * steps) * (ratio**2 - settled) + settled


def langevin_step(ratio: float, steps: int) -> float:
    """The step e in (0, 1), relative to sigma^2, whose `langevin_variance` is nearest to 1: technique 4.

    It is above 1 for any step, so this is its least. The paper's epsilon is e times the square of the
    lowest level: on CIFAR-10 (ratio 50 : 0.01 in 232 levels, 5 steps) that is 6.18e-6, where the
    paper has 6.2e-6.

    Raises:
        ValueError: unless ratio > 1 and steps >= 1.
    """
    if not ratio > 1 or steps < 1:
        raise ValueError(
            f"a Langevin step needs a ratio of levels above 1 and at least 1 step; given {ratio} and {steps}"
        )
    low, high = 0.0, 1.0
    for _ in range(100):  # the variance falls, then rises: a third at either end can go
        left, right = low + (high - low) / 3, high - (high - low) / 3
        falls = langevin_variance(left, ratio, steps) > langevin_variance(right, ratio, steps)
        low, high = (left, high) if falls else (low, right)
    return (low + high) / 2
