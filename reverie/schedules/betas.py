"""The variances of a chain's steps.

Letters in shapes: T steps of a chain.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.config import Part


class Betas(Part, abc.ABC, family="betas"):
    """The variances beta_1 ... beta_T of a chain x_i = sqrt(1 - beta_i) x_{i-1} + sqrt(beta_i) z."""

    @abc.abstractmethod
    def values(self) -> Tensor:
        """(T,) float64, each in (0, 1), the last may be 1."""


def _check_range(name: str, steps: int, start: float, end: float) -> None:
    if steps < 1:
        raise ValueError(f"{name} needs at least 1 step; given steps={steps}")
    if not 0 < start <= end <= 1:
        raise ValueError(f"{name} needs 0 < start <= end <= 1; given start={start}, end={end}")


@dataclass(frozen=True)
class LinearBetas(Betas, kind="linear"):
    """beta linear from `start` to `end` (Ho et al., 2020, section 4).

    The range is taken as given for any `steps`. A chain that is shorter than 1,000 steps needs a
    larger range to end in noise: multiply both by 1000 / steps.
    """

    steps: int = 1000
    start: float = 1e-4
    end: float = 0.02

    def __post_init__(self) -> None:
        _check_range("LinearBetas", self.steps, self.start, self.end)

    def values(self) -> Tensor:
        return torch.linspace(self.start, self.end, self.steps, dtype=torch.float64)


@dataclass(frozen=True)
class ScaledLinearBetas(Betas, kind="scaled_linear"):
    """sqrt(beta) linear from sqrt(`start`) to sqrt(`end`) (Rombach et al., 2022, released code)."""

    steps: int = 1000
    start: float = 0.00085
    end: float = 0.012

    def __post_init__(self) -> None:
        _check_range("ScaledLinearBetas", self.steps, self.start, self.end)

    def values(self) -> Tensor:
        return torch.linspace(self.start**0.5, self.end**0.5, self.steps, dtype=torch.float64) ** 2


@dataclass(frozen=True)
class SigmoidBetas(Betas, kind="sigmoid"):
    """beta = start + (end - start) sigmoid(u), u linear from -6 to 6 (Xu et al., 2022, GeoDiff)."""

    steps: int = 1000
    start: float = 1e-4
    end: float = 0.02

    def __post_init__(self) -> None:
        _check_range("SigmoidBetas", self.steps, self.start, self.end)

    def values(self) -> Tensor:
        u = torch.linspace(-6, 6, self.steps, dtype=torch.float64)
        return self.start + (self.end - self.start) * torch.sigmoid(u)


@dataclass(frozen=True)
class CosineBetas(Betas, kind="cosine"):
    """beta_i = min(1 - f(i / T) / f((i - 1) / T), largest), f(u) = cos^2(pi / 2 (u + s) / (1 + s)).

    Nichol & Dhariwal (2021), eq. 17 and section 3.2.
    """

    steps: int = 1000
    s: float = 0.008
    largest: float = 0.999

    def __post_init__(self) -> None:
        _check_range("CosineBetas", self.steps, self.largest, self.largest)
        if self.s < 0:
            raise ValueError(f"CosineBetas needs s >= 0; given {self.s}")

    def values(self) -> Tensor:
        u = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        f = torch.cos((u + self.s) / (1 + self.s) * math.pi / 2) ** 2
        return (1 - f[1:] / f[:-1]).clamp(max=self.largest)


@dataclass(frozen=True)
class GivenBetas(Betas, kind="given"):
    """Variances listed one by one, each in (0, 1); the last may be 1 (zero terminal SNR)."""

    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.betas:
            raise ValueError("GivenBetas needs at least one beta; given none")
        for i, beta in enumerate(self.betas):
            last = i == len(self.betas) - 1
            if not (0 < beta < 1 or (last and beta == 1)):
                raise ValueError(f"every beta must lie in (0, 1), the last may be 1; beta number {i + 1} is {beta}")

    def values(self) -> Tensor:
        return torch.tensor(self.betas, dtype=torch.float64)


@dataclass(frozen=True)
class ZeroTerminalSNR(Betas, kind="zero_terminal_snr"):
    """Another rule's chain with sqrt(alpha-bar) shifted and scaled so that its last is 0, its first as it was.

    With r_i = sqrt(prod_{j <= i} (1 - beta_j)), r_i becomes r_1 (r_i - r_T) / (r_1 - r_T): Lin et al.
    (2024), algorithm 1. The last beta is exactly 1, so x_1 is pure noise, and `Eps` and `Score` are
    refused: use `V`.

    Raises:
        ValueError: the chain has a single step.
    """

    betas: Betas = field(default_factory=ScaledLinearBetas)

    def __post_init__(self) -> None:
        if len(self.betas.values()) < 2:
            raise ValueError("ZeroTerminalSNR needs a chain of at least 2 steps; given one of 1")

    def values(self) -> Tensor:
        betas = self.betas.values()
        root = (0.5 * torch.log1p(-betas).cumsum(0)).exp()
        # Of 1 - (r_i / r_{i-1})^2 both factors, so that small betas keep their digits; the constants cancel.
        rest = root - root[-1]
        fall = (root[:-1] - root[1:]) / rest[:-1]
        return torch.cat([betas[:1], fall * (2 - fall)])
