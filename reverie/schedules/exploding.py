"""Variance-exploding processes: alpha = 1."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from reverie.noise_levels import geometric_levels, largest_distance
from reverie.schedules.base import Schedule


@dataclass(frozen=True)
class VE(Schedule, kind="ve"):
    """Variance exploding: alpha = 1 and sigma geometric in t, low^(1-u) high^u.

    Song & Ermon (2019) and Song et al. (2021), eq. 30; with the default bounds, the range of EDM
    (Karras et al., 2022). u = (t - ramp) / (1 - ramp); below t = `ramp` sigma falls linearly from
    `low` to 0, so that t = 0 is the data and every positive sigma has one t of its own.

    Raises:
        ValueError: unless 0 < low < high and 0 < ramp < 1.
    """

    low: float = 0.002
    high: float = 80.0
    ramp: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"VE needs 0 < low < high; given low={self.low}, high={self.high}")
        if not 0 < self.ramp < 1:
            raise ValueError(f"VE needs a ramp between 0 and 1; given {self.ramp}")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        u = ((t - self.ramp) / (1 - self.ramp)).clamp_min(0)
        return torch.where(t < self.ramp, self.low * t / self.ramp, self.low * (self.high / self.low) ** u)

    def normalized(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Both divided by alpha."""
        return alpha / alpha, sigma / alpha

    def time(self, log_snr: Tensor) -> Tensor:
        sigma = torch.exp(-log_snr / 2)
        u = torch.log(sigma / self.low) / math.log(self.high / self.low)
        return torch.where(sigma < self.low, self.ramp * sigma / self.low, self.ramp + (1 - self.ramp) * u).clamp(0, 1)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        above = math.log(self.high / self.low) / (1 - self.ramp) * self.sigma(t)
        below = torch.full_like(t, self.low / self.ramp)
        return torch.zeros_like(t), torch.where(t < self.ramp, below, above)


@dataclass(frozen=True)
class Geometric(Schedule, kind="geometric"):
    """L = `levels` noise levels in a geometric progression, sigma = `low` at t = 1/L to `high` at t = 1.

    The noise levels of NCSN and NCSNv2 (Song & Ermon, 2019; 2020), there counted from the largest:
    with i = 1 ... L, sigma(i / L) = low (high / low)^((i - 1) / (L - 1)). It is `VE` with the ramp
    1/L, so it has a sigma between the levels too, and the data at t = 0. The default is NCSNv2's
    for CIFAR-10.

    With `from_data` both `high` and `levels` are measured on the data (`fit`), by techniques 1 and 2
    of NCSNv2: see `reverie.noise_levels`.

    Raises:
        ValueError: unless 0 < low < high and levels >= 2.
    """

    low: float = 0.01
    high: float = 50.0
    levels: int = 232
    from_data: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"Geometric needs 0 < low < high; given low={self.low}, high={self.high}")
        if self.levels < 2:
            raise ValueError(f"Geometric needs at least 2 levels, one for each end; given levels={self.levels}")

    @property
    def learns(self) -> bool:
        return self.from_data

    def fit(self, data: Tensor) -> Self:
        """With `from_data`: `high` is the largest distance in the data, `levels` follow from their dimension.

        Raises:
            ValueError: the data are a point, or lie closer together than `low`.
        """
        if not self.from_data:
            return self
        high = largest_distance(data)
        if not high > self.low:
            raise ValueError(
                f"the data lie within {high:.4g} of each other, and the lowest noise level is {self.low}: give a lower "
                f"schedule.low, or schedule.from_data=false and levels of your own"
            )
        return replace(self, high=high, levels=geometric_levels(self.low, high, data[0].numel()))

    @cached_property
    def knots(self) -> int:
        """L."""
        return self.levels

    @cached_property
    def _continuous(self) -> VE:
        return VE(self.low, self.high, 1 / self.levels)

    def alpha(self, t: Tensor) -> Tensor:
        return self._continuous.alpha(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self._continuous.sigma(t)

    def normalized(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self._continuous.normalized(alpha, sigma)

    def time(self, log_snr: Tensor) -> Tensor:
        return self._continuous.time(log_snr)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self._continuous.rates(t)
