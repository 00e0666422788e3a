"""Averaging profiles: how much an average of the weights holds of those of each step.

A power-function average at step n of relative length l has the profile

    p(tau) = (gamma + 1) tau^gamma / n^(gamma + 1),  0 <= tau <= n,

whose standard deviation is l n (Karras et al., 2024, section 3.1). Its update moves by exactly the
integral of p over a step, so what holds for profiles holds for averages, with the weights of a
step standing from the end of the one before it to its own.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST = 0.28
"""The longest relative length; 12^(-1/2) = 0.289 is the plain mean of all weights."""


def relative_length(gamma: float) -> float:
    """(gamma + 1)^(1/2) (gamma + 2)^(-1) (gamma + 3)^(-1/2), the standard deviation of p at n = 1."""
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


@functools.lru_cache
def exponent(length: float) -> float:
    """The gamma >= 0 of a relative length, by bisection: the length falls in gamma, and is below 1 / gamma.

    Raises:
        ValueError: a length out of range.
    """
    if not 0 < length <= LONGEST:
        raise ValueError(
            f"a relative length must be greater than 0 and at most {LONGEST} (0.289 is the mean of all weights); "
            f"given {length:g}"
        )
    low, high = 0.0, 1 / length
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if relative_length(middle) > length else (low, middle)
    return low


@dataclass(frozen=True)
class Profile:
    """That of the average of relative `length` after `step` steps.

    Raises:
        ValueError: a step below 1, or a length out of range.
    """

    step: int
    length: float

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"an average begins with step 1; given {self.step}")
        exponent(self.length)

    @property
    def gamma(self) -> float:
        """The exponent."""
        return exponent(self.length)


def inner(p: Profile, q: Profile) -> float:
    """The integral of p q: (a + 1) (b + 1) / (a + b + 1) (n / m)^b / m, for exponents a, b and steps n <= m."""
    p, q = sorted((p, q), key=lambda profile: profile.step)
    a, b = p.gamma, q.gamma
    return (a + 1) * (b + 1) / (a + b + 1) * (p.step / q.step) ** b / q.step


def matched(profiles: Sequence[Profile], target: Profile) -> tuple[Tensor, float]:
    r"""The weights c (N,) of N profiles whose sum is nearest to a target, and how far off it is.

        c = argmin \int (sum_i c_i p_i - p)^2  where  sum_i c_i = 1

    in float64, through the normal equations with a Lagrange multiplier; the distance is relative to
    the root of \int p^2. Karras et al. (2024, appendix C) leave the sum of c free. Held at 1, what
    the weights of all steps have in common comes out exactly, so that only their changes suffer
    from a poor match, and few snapshots do: see tests/training/test_profiles.py.

    Raises:
        ValueError: no profiles.
    """
    if not profiles:
        raise ValueError("there are no profiles to match with; give at least one")
    gram = torch.tensor([[inner(p, q) for q in profiles] for p in profiles], dtype=torch.float64)
    aim = torch.tensor([inner(p, target) for p in profiles], dtype=torch.float64)
    size = gram.diagonal().sqrt()
    n = len(profiles)
    system = torch.zeros(n + 1, n + 1, dtype=torch.float64)
    system[:n, :n] = gram / size[:, None] / size  # in profiles of norm 1
    ones = size.min() / size
    system[n, :n] = system[:n, n] = ones
    right = torch.cat([aim / size, size.min()[None]])
    found = torch.linalg.lstsq(system, right[:, None], rcond=1e-13, driver="gelsd").solution[:n, 0] / size
    norm = inner(target, target)
    off = float(found @ gram @ found - 2 * found @ aim) + norm
    return found, math.sqrt(max(off, 0.0) / norm)
