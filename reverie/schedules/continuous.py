"""Processes in continuous time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.schedules.base import Schedule


@dataclass(frozen=True)
class Cosine(Schedule, kind="cosine"):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2).

    Nichol & Dhariwal (2021), eq. 17, in continuous time with s = 0. alpha(1) is exactly 0.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * (1 - t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)

    def time(self, log_snr: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(torch.exp(-log_snr / 2))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -math.pi / 2 * self.sigma(t), math.pi / 2 * self.alpha(t)


@dataclass(frozen=True)
class _LinearRate(Schedule):
    """The signal of the SDE dx = -beta(t) x / 2 dt + ..., beta(t) = beta_min + t (beta_max - beta_min).

    log alpha = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(
                f"{type(self).__name__} needs 0 < beta_min <= beta_max; given beta_min={self.beta_min}, "
                f"beta_max={self.beta_max}"
            )

    def _log_alpha_squared(self, t: Tensor) -> Tensor:
        return -0.5 * t**2 * (self.beta_max - self.beta_min) - t * self.beta_min

    def alpha(self, t: Tensor) -> Tensor:
        return (self._log_alpha_squared(t) / 2).exp()

    def _alpha_rate(self, t: Tensor) -> Tensor:
        return -0.5 * (self.beta_min + t * (self.beta_max - self.beta_min)) * self.alpha(t)

    def _time(self, c: Tensor) -> Tensor:
        """Where log alpha^2 = -c: the root of t^2 (beta_max - beta_min) / 2 + t beta_min = c, free of cancellation."""
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * c).sqrt()
        return torch.nan_to_num(2 * c / (self.beta_min + root), nan=1.0).clamp(0, 1)


@dataclass(frozen=True)
class LinearVP(_LinearRate, kind="linear_vp"):
    """The variance-preserving SDE with beta(t) = beta_min + t (beta_max - beta_min).

    log alpha = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2 and sigma^2 = 1 - alpha^2:
    Song et al. (2021), eq. 33.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(self._log_alpha_squared(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        log_alpha_squared = self._log_alpha_squared(t)
        return log_alpha_squared - (-torch.expm1(log_alpha_squared)).log()

    def time(self, log_snr: Tensor) -> Tensor:
        return self._time(torch.nn.functional.softplus(-log_snr))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        da = self._alpha_rate(t)
        return da, -self.alpha(t) * da / self.sigma(t)


@dataclass(frozen=True)
class SubVP(_LinearRate, kind="sub_vp"):
    """The sub-VP SDE: alpha of `LinearVP`, and sigma = 1 - alpha^2, its variance: less noise at every t.

    Song et al. (2021), eq. 29.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max.
    """

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(self._log_alpha_squared(t))

    def normalized(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Both times the k with k sigma = 1 - (k alpha)^2."""
        k = 2 / (sigma + (sigma**2 + 4 * alpha**2).sqrt())
        return k * alpha, k * sigma

    def log_snr(self, t: Tensor) -> Tensor:
        log_alpha_squared = self._log_alpha_squared(t)
        return log_alpha_squared - 2 * (-torch.expm1(log_alpha_squared)).log()

    def time(self, log_snr: Tensor) -> Tensor:
        # With r = sigma / alpha, 1 / alpha - alpha = r, so that 2 sinh(-log alpha) = r.
        return self._time(2 * torch.asinh(torch.exp(-log_snr / 2) / 2))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        da = self._alpha_rate(t)
        return da, -2 * self.alpha(t) * da


@dataclass(frozen=True)
class Flow(Schedule, kind="flow"):
    """alpha = 1 - t, sigma = t.

    Rectified flow (Liu et al., 2023) and conditional optimal-transport flow matching (Lipman et
    al., 2023, eq. 22 with sigma_min = 0, time reversed). alpha(1) is exactly 0.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def normalized(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Both divided by alpha + sigma."""
        return alpha / (alpha + sigma), sigma / (alpha + sigma)

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)
