"""How an error counts by its size."""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.config import Part


class Penalty(Part, abc.ABC, family="penalty"):
    """An error (B, ...) to what it costs, number by number: about its square where it is small."""

    @abc.abstractmethod
    def __call__(self, error: Tensor) -> Tensor:
        """(B, ...), for errors (B, ...)."""


@dataclass(frozen=True)
class Squared(Penalty, kind="squared"):
    """error^2."""

    def __call__(self, error: Tensor) -> Tensor:
        return error**2


@dataclass(frozen=True)
class Huber(Penalty, kind="huber"):
    """error^2 up to |error| = delta, 2 delta |error| - delta^2 beyond (Huber, 1964), twice his.

    Raises:
        ValueError: unless delta > 0.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"Huber needs delta > 0; given {self.delta}")

    def __call__(self, error: Tensor) -> Tensor:
        return 2 * torch.nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.delta)


@dataclass(frozen=True)
class PseudoHuber(Penalty, kind="pseudo_huber"):
    """2 delta^2 (sqrt(1 + (error / delta)^2) - 1): smooth, error^2 near 0 and 2 delta |error| far out.

    Charbonnier et al. (1997); Song & Dhariwal (2024), section 3.3, take it over the whole example.

    Raises:
        ValueError: unless delta > 0.
    """

    delta: float = 1.0

    def __post_init__(self) -> None:
        if not self.delta > 0:
            raise ValueError(f"PseudoHuber needs delta > 0; given {self.delta}")

    def __call__(self, error: Tensor) -> Tensor:
        square = (error / self.delta) ** 2
        return 2 * self.delta**2 * square / ((1 + square).sqrt() + 1)  # free of cancellation
