"""How much each noise level counts.

The same error reads differently in each notation: with x held, an error d in x0 is -alpha / sigma d
in eps and -(alpha^2 + sigma^2) / sigma d in v. A published weight is defined in one notation;
`per_x0` carries it to the one the loss is taken in, so that the loss is the same in all of them.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.config import Part
from reverie.prediction import Rates
from reverie.schedules import Level

Notation = Literal["x0", "eps", "v", "score", "flow"]


def per_x0(level: Level, notation: Notation, rates: Rates) -> Tensor:
    """The squared error in `notation` that a squared error of 1 in x0 amounts to."""
    a, b, (da, db) = level.alpha, level.sigma, rates
    if notation == "x0":
        return torch.ones_like(a)
    if notation == "eps":
        return (a / b) ** 2
    if notation == "v":
        return ((a**2 + b**2) / b) ** 2
    if notation == "score":
        return (a / b**2) ** 2
    return (da - db * a / b) ** 2


def carried(weight: Tensor, level: Level, notation: Notation, rates: Rates) -> Tensor:
    """A weight on the squared error in x0 as one in `notation`; 0 where that says nothing of x0 (alpha = 0)."""
    factor = per_x0(level, notation, rates)
    return torch.where(factor > 0, weight / factor, torch.zeros_like(factor))


def from_eps(weight: Tensor, level: Level, notation: Notation, rates: Rates) -> Tensor:
    """A weight on the squared error in eps as one in `notation`; 0 where alpha = 0, but in eps itself and in score."""
    if notation == "eps":
        return weight
    if notation == "score":
        return weight * level.sigma**2
    return carried(weight * (level.alpha / level.sigma) ** 2, level, notation, rates)


class Weight(Part, abc.ABC, family="weight"):
    """A weight for squared errors in `notation`, broadcasting against x."""

    @abc.abstractmethod
    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        """The weight at a level."""


@dataclass(frozen=True)
class Unit(Weight, kind="unit"):
    """1, in whatever notation the loss is taken (Ho et al., 2020, eq. 14, in eps)."""

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        return torch.ones_like(level.alpha)


@dataclass(frozen=True)
class MinSNR(Weight, kind="min_snr"):
    """min(SNR, gamma) on the squared error in x0 (Hang et al., 2023, section 3.4).

    In eps that is min(1, gamma / SNR), in v min(SNR, gamma) / (SNR + 1).

    Raises:
        ValueError: unless gamma > 0.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"MinSNR needs gamma > 0; given {self.gamma}")

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        return from_eps((self.gamma * (level.sigma / level.alpha) ** 2).clamp(max=1), level, notation, rates)


@dataclass(frozen=True)
class SoftMinSNR(Weight, kind="soft_min_snr"):
    """SNR gamma / (SNR + gamma) on the squared error in x0: `MinSNR` without its corner (Crowson et al., 2024, 3.2).

    In eps that is gamma / (SNR + gamma).

    Raises:
        ValueError: unless gamma > 0.
    """

    gamma: float = 4.0

    def __post_init__(self) -> None:
        if not self.gamma > 0:
            raise ValueError(f"SoftMinSNR needs gamma > 0; given {self.gamma}")

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        snr = (level.alpha / level.sigma) ** 2
        return from_eps(self.gamma / (snr + self.gamma), level, notation, rates)


@dataclass(frozen=True)
class TruncatedSNR(Weight, kind="truncated_snr"):
    """max(SNR, 1) on the squared error in x0 (Salimans & Ho, 2022, section 4): never 0, as SNR alone is at the end."""

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        snr = (level.alpha / level.sigma) ** 2
        return carried(snr.clamp(min=1), level, notation, rates)


@dataclass(frozen=True)
class P2(Weight, kind="p2"):
    """1 / (k + SNR)^gamma on the squared error in eps (Choi et al., 2022, eq. 8).

    Raises:
        ValueError: unless k > 0 and gamma >= 0.
    """

    k: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (self.k > 0 and self.gamma >= 0):
            raise ValueError(f"P2 needs k > 0 and gamma >= 0; given k={self.k}, gamma={self.gamma}")

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        snr = (level.alpha / level.sigma) ** 2
        return from_eps((self.k + snr) ** -self.gamma, level, notation, rates)


@dataclass(frozen=True)
class SigmoidWeight(Weight, kind="sigmoid"):
    """sigmoid(bias - log SNR) on the squared error in eps (Kingma & Gao, 2023; Hoogeboom et al., 2025).

    They take the loss uniformly in log-SNR; the times chosen here are a density on top of it.
    """

    bias: float = 2.0

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        snr = (level.alpha / level.sigma) ** 2
        return from_eps(1 / (1 + snr * math.exp(-self.bias)), level, notation, rates)


@dataclass(frozen=True)
class SigmaSquared(Weight, kind="sigma_squared"):
    """sigma^2 on the squared error in score (Song & Ermon, 2019, section 4.2): 1 on that in eps."""

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        return from_eps(torch.ones_like(level.alpha), level, notation, rates)


@dataclass(frozen=True)
class LikelihoodWeight(Weight, kind="likelihood"):
    """g^2 on the squared error in score: the loss then bounds the likelihood (Song et al., 2021b, theorem 1).

    g^2 = 2 sigma sigma' - 2 alpha' / alpha sigma^2, the diffusion of the process; on the squared
    error in x0 this is -d SNR / dt. It grows without bound as t falls to 0: see `Resampled`.
    """

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        a, b, (da, db) = level.alpha, level.sigma, rates
        return carried(2 * a / b**2 * (a * db / b - da), level, notation, rates)


@dataclass(frozen=True)
class EDMWeight(Weight, kind="edm"):
    """(r^2 + sigma_data^2) / (r sigma_data)^2 on the squared error in x0, r = sigma / alpha.

    Karras et al. (2022), table 1: the error of the network's own output, weighted equally.

    Raises:
        ValueError: unless sigma_data > 0.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ValueError(f"EDMWeight needs sigma_data > 0; given {self.sigma_data}")

    def __call__(self, level: Level, notation: Notation, rates: Rates) -> Tensor:
        snr = (level.alpha / level.sigma) ** 2
        return carried(1 / self.sigma_data**2 + snr, level, notation, rates)
