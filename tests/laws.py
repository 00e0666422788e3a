"""What a sampler does to Gaussian data, without a random number.

For independent Gaussian data every step is affine in x and in each of its draws, so the mean and the
variance of what it makes follow exactly from a few steps of a batch of impulses.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from helpers import DOUBLE
from torch import Tensor

from reverie.exact import Gaussian
from reverie.samplers import Sampler


class _Impulses:
    """The k-th draw is 1 in row k + 2 and 0 elsewhere."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        z[self.count + 2 : self.count + 3] = 1
        self.count += 1
        return z


@dataclass(frozen=True)
class Map:
    """x to offset + factor x + noise of that variance, number by number."""

    offset: Tensor
    factor: Tensor
    variance: Tensor


def chain(f: Gaussian, sampler: Sampler, times: Tensor, draws: int = 2) -> list[Map]:
    """What each step does, each taking at most so many draws."""
    x = torch.zeros(2 + draws, *f.means[0].shape, dtype=DOUBLE)
    x[1] = 1
    found = []
    for t, s in pairwise(times):
        noise = _Impulses()
        out = sampler.step(f, x, t, s, None, noise, sampler.init())[0]
        assert noise.count <= draws, f"{sampler} draws {noise.count} times a step"
        found.append(Map(out[0], out[1] - out[0], ((out[2:] - out[0]) ** 2).sum(0)))
    return found


def law(f: Gaussian, maps: list[Map], start: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Mean and variance after the steps, from the data's own law at `start`, the draws `scale` times what they are."""
    a, b = f.schedule.alpha(start), f.schedule.sigma(start)
    mean, var = a * f.means[0], a**2 * f.stds[0] ** 2 + b**2
    for m in maps:
        mean, var = m.offset + m.factor * mean, m.factor**2 * var + scale**2 * m.variance
    return mean, var
