r"""One prediction in every notation, and the reverse step it implies.

All notations say the same thing about x = alpha x0 + sigma eps:

    x0      the data                        eps    the noise
    score   -eps / sigma                    v      alpha eps - sigma x0
    flow    alpha' x0 + sigma' eps, the velocity dx/dt of the path (alpha', sigma' the rates)

The pair (x0, eps) is the normal form. Each `from_` constructor takes the cheapest exact path to
both halves; v and flow never divide by alpha or sigma.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from reverie.schedules import Level

Rates = tuple[Tensor, Tensor]
"""d alpha/dt and d sigma/dt, broadcasting against x."""


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says about x (B, ...) at a level. Invariant: x = alpha x0 + sigma eps."""

    x: Tensor
    level: Level
    x0: Tensor
    eps: Tensor
    var: Tensor | None = None
    """The learned reverse variance, as the fraction in [0, 1] of the way from its lower to its
    upper bound in log space (Nichol & Dhariwal, 2021, eq. 15), so that it holds for any step."""

    @classmethod
    def of(cls, x0: Tensor, eps: Tensor, level: Level) -> Prediction:
        """The truth about x = alpha x0 + sigma eps, made of this x0 and eps."""
        return cls(level.alpha * x0 + level.sigma * eps, level, x0, eps)

    @classmethod
    def from_x0(cls, x0: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """eps = (x - alpha x0) / sigma; sigma must not be 0."""
        return cls(x, level, x0, (x - level.alpha * x0) / level.sigma, var)

    @classmethod
    def from_eps(cls, eps: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """x0 = (x - sigma eps) / alpha; alpha must not be 0."""
        return cls(x, level, (x - level.sigma * eps) / level.alpha, eps, var)

    @classmethod
    def from_score(cls, score: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """eps = -sigma score; alpha must not be 0."""
        return cls.from_eps(-level.sigma * score, x, level, var)

    @classmethod
    def from_v(cls, v: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """x0 = (alpha x - sigma v) / n and eps = (sigma x + alpha v) / n, with n = alpha^2 + sigma^2.

        Salimans & Ho (2022), appendix D, without assuming n = 1.
        """
        a, b = level.alpha, level.sigma
        n = a**2 + b**2
        return cls(x, level, (a * x - b * v) / n, (b * x + a * v) / n, var)

    @classmethod
    def from_flow(cls, flow: Tensor, x: Tensor, level: Level, rates: Rates, var: Tensor | None = None) -> Prediction:
        """The solution of x = alpha x0 + sigma eps and flow = alpha' x0 + sigma' eps."""
        a, b, (da, db) = level.alpha, level.sigma, rates
        n = da * b - db * a
        return cls(x, level, (b * flow - db * x) / n, (da * x - a * flow) / n, var)

    @property
    def score(self) -> Tensor:
        """grad log p_t(x) = -eps / sigma."""
        return -self.eps / self.level.sigma

    @property
    def v(self) -> Tensor:
        """alpha eps - sigma x0 (Salimans & Ho, 2022)."""
        return self.level.alpha * self.eps - self.level.sigma * self.x0

    def flow(self, rates: Rates) -> Tensor:
        """alpha' x0 + sigma' eps."""
        return rates[0] * self.x0 + rates[1] * self.eps

    def with_x0(self, x0: Tensor) -> Prediction:
        """The same x told another x0; eps follows."""
        return Prediction.from_x0(x0, self.x, self.level, self.var)

    def with_eps(self, eps: Tensor) -> Prediction:
        """The same x told another eps; x0 follows."""
        return Prediction.from_eps(eps, self.x, self.level, self.var)

    def with_var(self, var: Tensor | None) -> Prediction:
        """The same with another variance fraction."""
        return replace(self, var=var)


@dataclass(frozen=True)
class Bridge:
    r"""The law of x_s given x_t and x0, for s below t: N(x x_t + x0 x0, lower).

    With r = alpha_t / alpha_s and w = sigma_t^2 - r^2 sigma_s^2, the variance of q(x_t | x_s):

        x     = r sigma_s^2 / sigma_t^2
        x0    = alpha_s w / sigma_t^2
        lower = w sigma_s^2 / sigma_t^2,  the variance of q(x_s | x_t, x0)
        upper = w

    Ho et al. (2020), eq. 6 and 7, for any pair of levels and also where alpha is not sqrt(1 - sigma^2).
    """

    x: Tensor
    x0: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def between(cls, t: Level, s: Level) -> Bridge:
        """From the level t to s below it; exact to rounding only for levels in float64."""
        ratio = t.alpha / s.alpha
        w = t.sigma**2 - (ratio * s.sigma) ** 2
        keep = (s.sigma / t.sigma) ** 2
        return cls(ratio * keep, s.alpha * (w / t.sigma**2), w * keep, w)

    def mean(self, q: Prediction) -> Tensor:
        """Of x_s, for the x0 of a prediction."""
        return self.x * q.x + self.x0 * q.x0

    def log_variance(self, fraction: Tensor | float) -> Tensor:
        """f log upper + (1 - f) log lower, -46 (a variance of 1e-20) at the least."""
        upper, lower = self.upper.clamp_min(1e-20).log(), self.lower.clamp_min(1e-20).log()
        return fraction * upper + (1 - fraction) * lower


def posterior(q: Prediction, s: Level, fraction: float = 0.0) -> tuple[Tensor, Tensor]:
    r"""Mean and log-variance of p(x_s | x_t), the reverse step from the level of `q` to `s` below it.

    The mean is that of `Bridge`; log var = f log upper + (1 - f) log lower (Nichol & Dhariwal, 2021,
    eq. 15). f is the prediction's own `var` if it has one, else `fraction`: 0 for the lower bound, 1
    for the upper.

    Shapes: mean like x; log-variance broadcasts against x. It is -46 (a variance of 1e-20) at the
    least, the value at s = 0 of the lower bound.
    """
    bridge = Bridge.between(q.level, s)
    return bridge.mean(q), bridge.log_variance(fraction if q.var is None else q.var)
