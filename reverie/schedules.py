r"""Noise schedules: how much signal and noise x_t = alpha(t) x0 + sigma(t) eps holds at time t.

Time runs from t = 0, the data (alpha = 1, sigma = 0), to t = 1, noise; sigma / alpha grows with t.
Every positive sigma has a t > 0 of its own, also where the published process starts from a noise
floor. Derivatives, the inverse t(log-SNR) and the discrete chain all follow from alpha and sigma.

Letters in shapes: B batch, T steps of a chain, ... the shape of one example.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from reverie.config import Part
from reverie.tensors import host, right


@dataclass(frozen=True)
class Level:
    """The noise level of a batch: t, alpha(t) and sigma(t), each broadcasting against x (B, ...).

    A level shared by the batch is held as float64 scalars on the host, which enter kernels as
    numbers; levels that differ by example have the dtype and device of x, but for t, which stays in
    float64 on the host, to compute from.
    """

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def log_snr(self) -> Tensor:
        """log(alpha^2 / sigma^2)."""
        return 2 * (self.alpha.log() - self.sigma.log())


class Schedule(Part, abc.ABC, family="schedule"):
    """alpha and sigma as functions of t in [0, 1], given for t (B,) or () in float64.

    A subclass defines `alpha` and `sigma`; the rest has exact defaults, which a subclass replaces
    where it knows a closed form that is faster or keeps more digits.
    """

    @abc.abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """The factor on the data, 1 at t = 0 and falling."""

    @abc.abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """The standard deviation of the noise, 0 at t = 0."""

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), falling in t; +inf at t = 0, and -inf where alpha = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def time(self, log_snr: Tensor) -> Tensor:
        """The t at which `log_snr` is reached, clamped to [0, 1]: bisection to float64 resolution."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(64):
            middle = (low + high) / 2
            above = self.log_snr(middle) > log_snr
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """d alpha / dt and d sigma / dt."""
        one = torch.ones_like(t)
        return torch.func.jvp(self.alpha, (t,), (one,))[1], torch.func.jvp(self.sigma, (t,), (one,))[1]

    def at(self, t: Tensor, like: Tensor) -> Level:
        """The level at t, (B,) or (), to broadcast against `like` (B, ...).

        Evaluated on the host in float64 and rounded once, if at all: see `Level`.
        """
        t = host(t)
        alpha, sigma = right(self.alpha(t), like), right(self.sigma(t), like)
        return Level(t.reshape(alpha.shape), alpha, sigma)

    def ends_in_noise(self) -> bool:
        """Whether alpha(1) = 0 exactly, so that x_1 says nothing of x0 (zero terminal SNR)."""
        return float(self.alpha(host(1.0))) == 0.0


# ------------------------------------------------------------------------------ continuous time


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


@dataclass(frozen=True)
class LinearVP(Schedule, kind="linear_vp"):
    """The variance-preserving SDE with beta(t) = beta_min + t (beta_max - beta_min).

    log alpha = -t^2 (beta_max - beta_min) / 4 - t beta_min / 2 and sigma^2 = 1 - alpha^2:
    Song et al. (2021), eq. 33.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max:
            raise ValueError(
                f"LinearVP needs 0 < beta_min <= beta_max; given beta_min={self.beta_min}, beta_max={self.beta_max}"
            )

    def _log_alpha_squared(self, t: Tensor) -> Tensor:
        return -0.5 * t**2 * (self.beta_max - self.beta_min) - t * self.beta_min

    def alpha(self, t: Tensor) -> Tensor:
        return (self._log_alpha_squared(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(self._log_alpha_squared(t))).sqrt()

    def log_snr(self, t: Tensor) -> Tensor:
        log_alpha_squared = self._log_alpha_squared(t)
        return log_alpha_squared - (-torch.expm1(log_alpha_squared)).log()

    def time(self, log_snr: Tensor) -> Tensor:
        # The root of t^2 (beta_max - beta_min) / 2 + t beta_min = -log alpha^2, free of cancellation.
        c = torch.nn.functional.softplus(-log_snr)
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * c).sqrt()
        return torch.nan_to_num(2 * c / (self.beta_min + root), nan=1.0).clamp(0, 1)


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

    def time(self, log_snr: Tensor) -> Tensor:
        sigma = torch.exp(-log_snr / 2)
        u = torch.log(sigma / self.low) / math.log(self.high / self.low)
        return torch.where(sigma < self.low, self.ramp * sigma / self.low, self.ramp + (1 - self.ramp) * u).clamp(0, 1)


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

    def time(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)


# -------------------------------------------------------------------------------- discrete time


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
    def steps(self) -> int:
        """T."""
        return len(self._knots) - 1

    @cached_property
    def _knots(self) -> Tensor:
        """(T + 1,), log alpha^2 at t = i / T."""
        log_alpha_squared = torch.log1p(-self.betas.values()).cumsum(0)
        return torch.cat([log_alpha_squared.new_zeros(1), log_alpha_squared])

    @cached_property
    def _log_snr_knots(self) -> Tensor:
        """(T + 1,), falling from +inf."""
        return self._knots - (-torch.expm1(self._knots)).log()

    def _place(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The knot below t, in 0 ... T-1, and the fraction of the way to the next one."""
        place = (t * self.steps).clamp(0, self.steps)
        below = place.floor().clamp(max=self.steps - 1)
        return below.long(), place - below

    def log_snr(self, t: Tensor) -> Tensor:
        below, fraction = self._place(t)
        a, b = self._log_snr_knots[below], self._log_snr_knots[below + 1]
        inner = a + (b - a) * fraction
        first = _log_snr_from_sigma(fraction * torch.sigmoid(-self._log_snr_knots[1]).sqrt())
        last = -_log_snr_from_sigma((1 - fraction) * torch.sigmoid(self._log_snr_knots[-2]).sqrt())
        return torch.where(a.isinf(), first, torch.where(b.isinf(), last, inner))

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sigmoid(self.log_snr(t)).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sigmoid(-self.log_snr(t)).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        below, _ = self._place(t)
        a, b = self._log_snr_knots[below], self._log_snr_knots[below + 1]
        alpha, sigma, slope = self.alpha(t), self.sigma(t), (b - a) * self.steps
        first = torch.sigmoid(-b).sqrt() * self.steps  # sigma' where sigma is linear
        last = -torch.sigmoid(a).sqrt() * self.steps  # alpha' where alpha is
        da = torch.where(a.isinf(), -sigma * first / alpha, torch.where(b.isinf(), last, alpha * sigma**2 * slope / 2))
        ds = torch.where(a.isinf(), first, torch.where(b.isinf(), -alpha * last / sigma, -sigma * alpha**2 * slope / 2))
        return da, ds

    def time(self, log_snr: Tensor) -> Tensor:
        knots = self._log_snr_knots
        below = (torch.searchsorted(-knots, -log_snr.contiguous(), right=True) - 1).clamp(0, self.steps - 1)
        a, b = knots[below], knots[below + 1]
        inner = (log_snr - a) / (b - a)
        first = torch.sigmoid(-log_snr).sqrt() / torch.sigmoid(-knots[1]).sqrt()
        last = 1 - torch.sigmoid(log_snr).sqrt() / torch.sigmoid(knots[-2]).sqrt()
        fraction = torch.where(a.isinf(), first, torch.where(b.isinf(), last, inner))
        return ((below + fraction) / self.steps).clamp(0, 1)


def _log_snr_from_sigma(sigma: Tensor) -> Tensor:
    """log((1 - sigma^2) / sigma^2)."""
    return torch.log1p(-(sigma**2)) - 2 * sigma.log()
