"""A chain of steps as a schedule.

Letters in shapes: T steps of a chain.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from reverie.schedules.base import Schedule
from reverie.schedules.betas import Betas, CosineBetas, GivenBetas, LinearBetas


@dataclass(frozen=True)
class Table(Schedule, kind="table"):
    """A variance-preserving chain of T steps (Ho et al., 2020), with knots at t = i / T.

    At knot i, alpha^2 is exactly prod_{j <= i} (1 - beta_j). Between knots the log-SNR is linear
    in t; from t = 0 to the first knot sigma is linear, and where the last knot has alpha = 0,
    alpha is linear up to it. The chain's index in 0 ... T-1 is t T - 1.

    `betas` is a rule (`LinearBetas()`, DDPM's, unless said) or the T numbers themselves.
    """

    betas: Betas = field(default_factory=LinearBetas)

    def __post_init__(self) -> None:
        if not isinstance(self.betas, Betas):
            object.__setattr__(self, "betas", GivenBetas(tuple(float(b) for b in self.betas)))

    @classmethod
    def linear(cls, steps: int = 1000, start: float = 1e-4, end: float = 0.02) -> Table:
        """DDPM's chain: see `LinearBetas`."""
        return cls(LinearBetas(steps, start, end))

    @classmethod
    def cosine(cls, steps: int = 1000, s: float = 0.008, largest: float = 0.999) -> Table:
        """Improved DDPM's chain: see `CosineBetas`."""
        return cls(CosineBetas(steps, s, largest))

    @cached_property
    def knots(self) -> int:
        """T."""
        return len(self._log_alpha_squared) - 1

    @cached_property
    def _log_alpha_squared(self) -> Tensor:
        """(T + 1,), at t = i / T."""
        log_alpha_squared = torch.log1p(-self.betas.values()).cumsum(0)
        return torch.cat([log_alpha_squared.new_zeros(1), log_alpha_squared])

    @cached_property
    def _log_snr(self) -> Tensor:
        """(T + 1,), falling from +inf."""
        return self._log_alpha_squared - (-torch.expm1(self._log_alpha_squared)).log()

    def _place(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The knot below t, in 0 ... T-1, and the fraction of the way to the next one."""
        place = (t * self.knots).clamp(0, self.knots)
        below = place.floor().clamp(max=self.knots - 1)
        return below.long(), place - below

    def log_snr(self, t: Tensor) -> Tensor:
        below, fraction = self._place(t)
        a, b = self._log_snr[below], self._log_snr[below + 1]
        inner = a + (b - a) * fraction
        first = _log_snr_from_sigma(fraction * torch.sigmoid(-self._log_snr[1]).sqrt())
        last = -_log_snr_from_sigma((1 - fraction) * torch.sigmoid(self._log_snr[-2]).sqrt())
        return torch.where(a.isinf(), first, torch.where(b.isinf(), last, inner))

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.log_snr(t)).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        below, _ = self._place(t)
        a, b = self._log_snr[below], self._log_snr[below + 1]
        alpha, sigma, slope = self.alpha(t), self.sigma(t), (b - a) * self.knots
        first = torch.sigmoid(-b).sqrt() * self.knots  # sigma' where sigma is linear
        last = -torch.sigmoid(a).sqrt() * self.knots  # alpha' where alpha is
        da = torch.where(a.isinf(), -sigma * first / alpha, torch.where(b.isinf(), last, alpha * sigma**2 * slope / 2))
        ds = torch.where(a.isinf(), first, torch.where(b.isinf(), -alpha * last / sigma, -sigma * alpha**2 * slope / 2))
        return da, ds

    def time(self, log_snr: Tensor) -> Tensor:
        knots = self._log_snr
        below = (torch.searchsorted(-knots, -log_snr.contiguous(), right=True) - 1).clamp(0, self.knots - 1)
        a, b = knots[below], knots[below + 1]
        inner = (log_snr - a) / (b - a)
        first = torch.sigmoid(-log_snr).sqrt() / torch.sigmoid(-knots[1]).sqrt()
        last = 1 - torch.sigmoid(log_snr).sqrt() / torch.sigmoid(knots[-2]).sqrt()
        fraction = torch.where(a.isinf(), first, torch.where(b.isinf(), last, inner))
        return ((below + fraction) / self.knots).clamp(0, 1)


def _log_snr_from_sigma(sigma: Tensor) -> Tensor:
    """log((1 - sigma^2) / sigma^2)."""
    return torch.log1p(-(sigma**2)) - 2 * sigma.log()
