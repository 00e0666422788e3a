"""Which times a loss trains at: distributions of t, given by their inverse distribution function.

A distribution maps u, uniform in [0, 1), to t. So randomness stays an argument, and stratified or
fixed u make stratified or fixed times.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.config import Part
from reverie.schedules import Schedule


class Times(Part, abc.ABC, family="times"):
    """u (B,) float64 in [0, 1) to t (B,) float64 in (0, 1]."""

    @abc.abstractmethod
    def __call__(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The times at quantiles 1 - u."""


def _normal_quantile(u: Tensor) -> Tensor:
    return torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))


@dataclass(frozen=True)
class UniformTimes(Times, kind="uniform"):
    """t uniform in [low, high]; `low` keeps clear of sigma = 0 (Song et al., 2021, appendix C).

    Raises:
        ValueError: unless 0 < low < high <= 1.
    """

    low: float = 1e-5
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high <= 1:
            raise ValueError(f"UniformTimes needs 0 < low < high <= 1; given low={self.low}, high={self.high}")

    def __call__(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.high - (self.high - self.low) * u


@dataclass(frozen=True)
class KnotTimes(Times, kind="knots"):
    """Each of the T = `total` knots i / T of a chain, i = 1 ... T, as likely (Ho et al., 2020).

    T is the chain's own number of steps unless given, 1,000 on a continuous process.

    Raises:
        ValueError: total < 1; when called, another number than the chain's.
    """

    total: int | None = None

    def __post_init__(self) -> None:
        if self.total is not None and self.total < 1:
            raise ValueError(f"KnotTimes needs total >= 1; given {self.total}")

    def __call__(self, u: Tensor, schedule: Schedule) -> Tensor:
        total = knots_of(schedule, self.total)
        return (total - (u * total).floor().clamp(max=total - 1)) / total


def knots_of(schedule: Schedule, total: int | None, key: str = "loss.times.total") -> int:
    """How many steps the chain has: `total`, which is the setting `key`, else the schedule's own number, else 1,000.

    Raises:
        ValueError: the first two differ.
    """
    if None not in (total, schedule.knots) and total != schedule.knots:
        raise ValueError(f"{key} is {total}, and the chain has {schedule.knots} steps; make them equal")
    return total or schedule.knots or 1000


@dataclass(frozen=True)
class LogNormalTimes(Times, kind="log_normal"):
    """log(sigma / alpha) ~ N(mean, std^2) (Karras et al., 2022, table 1).

    Raises:
        ValueError: unless std > 0.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"LogNormalTimes needs std > 0; given {self.std}")

    def __call__(self, u: Tensor, schedule: Schedule) -> Tensor:
        return schedule.time(-2 * (self.mean + self.std * _normal_quantile(1 - u)))


@dataclass(frozen=True)
class LogitNormalTimes(Times, kind="logit_normal"):
    """logit(t) ~ N(mean, std^2) (Esser et al., 2024, section 3.1).

    Raises:
        ValueError: unless std > 0.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"LogitNormalTimes needs std > 0; given {self.std}")

    def __call__(self, u: Tensor, schedule: Schedule) -> Tensor:
        return torch.sigmoid(self.mean + self.std * _normal_quantile(1 - u))
