"""Another schedule with more noise, or less."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from reverie.schedules.base import Schedule
from reverie.schedules.continuous import Flow


@dataclass(frozen=True)
class Shifted(Schedule, kind="shifted"):
    """A schedule with sigma / alpha multiplied by `factor` at every t: its log-SNR less 2 log factor.

    An image of twice the height and width keeps its content under twice the noise: the shift of
    simple diffusion is `factor` = resolution / 64 (Hoogeboom et al., 2023, section 3.1, where the
    log-SNR moves by 2 log(64 / resolution)). alpha and sigma are `normalized` to the same kind of
    process again; on `Flow` that is the change of time

        t' = factor t / (1 + (factor - 1) t),    alpha = 1 - t', sigma = t'

    of Esser et al. (2024), section 5.3.2, who take a factor of 3 for images of 1024 x 1024.

    Raises:
        ValueError: unless factor > 0, and for a schedule that `normalized` does not leave as it is.
    """

    schedule: Schedule = field(default_factory=Flow)
    factor: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"Shifted needs a factor greater than 0; given {self.factor}")
        t = torch.linspace(0, 1, 9, dtype=torch.float64)
        own = self.schedule.alpha(t), self.schedule.sigma(t)
        pairs = zip(own, self.schedule.normalized(*own), strict=True)
        if not all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs):
            raise ValueError(
                f"{type(self.schedule).__name__} cannot be shifted: its alpha and sigma are not what its method "
                f"normalized makes of them. Define normalized(alpha, sigma) as the pair of that kind of process with "
                f"the same sigma / alpha; without it alpha^2 + sigma^2 must be 1"
            )

    @property
    def learns(self) -> bool:
        return self.schedule.learns

    def fit(self, data: Tensor) -> Self:
        return replace(self, schedule=self.schedule.fit(data))

    @property
    def knots(self) -> int | None:
        return self.schedule.knots

    def normalized(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self.schedule.normalized(alpha, sigma)

    def _pair(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self.schedule.normalized(alpha, self.factor * sigma)

    def alpha(self, t: Tensor) -> Tensor:
        return self._pair(self.schedule.alpha(t), self.schedule.sigma(t))[0]

    def sigma(self, t: Tensor) -> Tensor:
        return self._pair(self.schedule.alpha(t), self.schedule.sigma(t))[1]

    def log_snr(self, t: Tensor) -> Tensor:
        return self.schedule.log_snr(t) - 2 * math.log(self.factor)

    def time(self, log_snr: Tensor) -> Tensor:
        return self.schedule.time(log_snr + 2 * math.log(self.factor))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        own = self.schedule.alpha(t), self.schedule.sigma(t)
        rates: tuple[Tensor, Tensor] = torch.func.jvp(self._pair, own, self.schedule.rates(t))[1]
        return rates
