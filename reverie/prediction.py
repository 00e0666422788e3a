r"""One prediction in every notation, and the reverse step it implies.

All notations say the same thing about x = alpha x0 + sigma eps:

    x0      the data                        eps    the noise
    score   -eps / sigma                    v      alpha eps - sigma x0
    flow    alpha' x0 + sigma' eps, the velocity dx/dt of the path (alpha', sigma' the rates)

The pair (x0, eps) is the normal form. Each `from_` constructor takes the cheapest exact path to
both halves; v and flow never divide by alpha or sigma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from torch import Tensor

from reverie.schedules import Level
from reverie.tensors import Number, combined, number

Rates = tuple[Tensor, Tensor]
"""d alpha/dt and d sigma/dt, broadcasting against x."""


@dataclass(frozen=True)
class Told:
    """What was said of x in one notation: `value`, with x0 = x0[0] x + x0[1] value, and eps likewise."""

    value: Tensor
    x0: tuple[Number, Number]
    eps: tuple[Number, Number]


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says about x (B, ...) at a level. Invariant: x = alpha x0 + sigma eps.

    Made `from_` one notation, it derives x0 and eps when they are first asked for: a sampler that
    needs only one of them, or a sum of both (`mix`), does not pay for the other.
    """

    x: Tensor
    level: Level
    x0: Tensor
    eps: Tensor
    var: Tensor | None = None
    """The learned reverse variance, as the fraction in [0, 1] of the way from its lower to its
    upper bound in log space (Nichol & Dhariwal, 2021, eq. 15), so that it holds for any step."""

    @classmethod
    def _said(cls, x: Tensor, level: Level, var: Tensor | None, **known: Tensor | Callable[[], object]) -> Self:
        """A prediction of which x0, eps or both are yet to be computed, by the functions given for them."""
        made = cls.__new__(cls)
        made.__dict__.update(x=x, level=level, var=var, **known)
        return made

    def __getattr__(self, name: str) -> Tensor:
        """x0 or eps, the first time it is asked for."""
        later = self.__dict__.get(f"_{name}")
        if later is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value: Tensor = later()
        self.__dict__[name] = value
        return value

    @classmethod
    def of(cls, x0: Tensor, eps: Tensor, level: Level) -> Prediction:
        """The truth about x = alpha x0 + sigma eps, made of this x0 and eps."""
        return cls(level.alpha * x0 + level.sigma * eps, level, x0, eps)

    @classmethod
    def from_x0(cls, x0: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """eps = (x - alpha x0) / sigma; sigma must not be 0."""

        def told() -> Told:
            a, b = number(level.alpha), number(level.sigma)
            return Told(x0, (0.0, 1.0), (1 / b, -a / b))

        return cls._said(x, level, var, x0=x0, _eps=lambda: (x - level.alpha * x0) / level.sigma, _told=told)

    @classmethod
    def from_eps(cls, eps: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """x0 = (x - sigma eps) / alpha; alpha must not be 0."""

        def told() -> Told:
            a, b = number(level.alpha), number(level.sigma)
            return Told(eps, (1 / a, -b / a), (0.0, 1.0))

        return cls._said(x, level, var, eps=eps, _x0=lambda: (x - level.sigma * eps) / level.alpha, _told=told)

    @classmethod
    def from_linear(
        cls, value: Tensor, x: Tensor, level: Level, x0: tuple[Number, Number], eps: tuple[Number, Number],
        var: Tensor | None = None,
    ) -> Prediction:  # fmt: skip
        """x0 = x0[0] x + x0[1] value and eps = eps[0] x + eps[1] value, for another notation."""
        return cls._said(
            x, level, var, _told=lambda: Told(value, x0, eps),
            _x0=lambda: x0[0] * x + x0[1] * value, _eps=lambda: eps[0] * x + eps[1] * value,
        )  # fmt: skip

    @classmethod
    def from_score(cls, score: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """eps = -sigma score; alpha must not be 0."""
        return cls.from_eps(-level.sigma * score, x, level, var)

    @classmethod
    def from_v(cls, v: Tensor, x: Tensor, level: Level, var: Tensor | None = None) -> Prediction:
        """x0 = (alpha x - sigma v) / n and eps = (sigma x + alpha v) / n, with n = alpha^2 + sigma^2.

        Salimans & Ho (2022), appendix D, without assuming n = 1.
        """

        def size() -> Tensor:
            return level.alpha**2 + level.sigma**2

        def told() -> Told:
            a, b = number(level.alpha), number(level.sigma)
            n = a**2 + b**2
            return Told(v, (a / n, -b / n), (b / n, a / n))

        return cls._said(
            x, level, var, _told=told,
            _x0=lambda: (level.alpha * x - level.sigma * v) / size(),
            _eps=lambda: (level.sigma * x + level.alpha * v) / size(),
        )  # fmt: skip

    @classmethod
    def from_flow(cls, flow: Tensor, x: Tensor, level: Level, rates: Rates, var: Tensor | None = None) -> Prediction:
        """The solution of x = alpha x0 + sigma eps and flow = alpha' x0 + sigma' eps."""
        da, db = rates

        def determinant() -> Tensor:
            return da * level.sigma - db * level.alpha

        def told() -> Told:
            a, b, c, d = (number(n) for n in (level.alpha, level.sigma, da, db))
            n = c * b - d * a
            return Told(flow, (-d / n, b / n), (c / n, -a / n))

        return cls._said(
            x, level, var, _told=told,
            _x0=lambda: (level.sigma * flow - db * x) / determinant(),
            _eps=lambda: (da * x - level.alpha * flow) / determinant(),
        )  # fmt: skip

    @cached_property
    def told(self) -> Told | None:
        """What was said, in the notation it was said in; None where x0 and eps were both given."""
        return self.__dict__["_told"]() if "_told" in self.__dict__ else None

    def linear(self, a: Number, b: Number) -> tuple[Number, Number, Tensor]:
        """(c, d, value) with a x0 + b eps = c x + d value, value being what the network said.

        Coefficients are floats where the level is shared by the batch, else tensors like the level's.
        Where both x0 and eps were given, value is the x0.
        """
        told = self.told or self._halves()
        return a * told.x0[0] + b * told.eps[0], a * told.x0[1] + b * told.eps[1], told.value

    def _halves(self) -> Told:
        a, b = number(self.level.alpha), number(self.level.sigma)
        return Told(self.x0, (0.0, 1.0), (1 / b, -a / b))

    def terms(self, a: Number, b: Number) -> list[tuple[Number, Tensor]]:
        """a x0 + b eps as coefficients and the tensors they go with, for `reverie.tensors.combined`."""
        if "x0" in self.__dict__ and "eps" in self.__dict__:
            return [(a, self.x0), (b, self.eps)]
        c, d, value = self.linear(a, b)
        return [(c, self.x), (d, value)]

    def mix(self, a: Number, b: Number) -> Tensor:
        """a x0 + b eps, in two kernels."""
        return combined(self.terms(a, b))

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
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__, var=var)
        return made


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
