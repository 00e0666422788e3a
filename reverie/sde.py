"""The stochastic differential equation of a schedule, in the words of Song et al. (2021).

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.schedules import Schedule
from reverie.tensors import host, right


@dataclass(frozen=True)
class SDE:
    r"""dx = f(x, t) dt + g(t) dw, whose solutions from x0 have the law of alpha(t) x0 + sigma(t) eps.

        f(x, t) = alpha' / alpha x,    g(t)^2 = d sigma^2 / dt - 2 alpha' / alpha sigma^2

    Song et al. (2021), eq. 5; f and g as in Kingma et al. (2021). `LinearVP` has f = -beta x / 2 and
    g^2 = beta (eq. 11), `SubVP` the same f and g^2 = beta (1 - alpha^4) (eq. 12), a variance-exploding
    schedule f = 0 and g^2 = d sigma^2 / dt (eq. 9).

    Times are () or (B,), 0 < t. Where alpha(1) = 0, f and g grow without bound as t nears 1, for only so
    does an SDE reach pure noise in finite time: such a schedule has one for t < 1.
    """

    schedule: Schedule

    def coefficients(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """alpha' / alpha and g^2 at t, in float64 on the host, shaped like t."""
        t = host(t)
        (da, db), sigma = self.schedule.rates(t), self.schedule.sigma(t)
        rate = da / self.schedule.alpha(t)
        return rate, 2 * sigma * (db - rate * sigma)

    def drift(self, x: Tensor, t: Tensor | float) -> Tensor:
        """f(x, t), for x (B, ...)."""
        return right(self.coefficients(t)[0], x) * x

    def diffusion(self, t: Tensor | float) -> Tensor:
        """g(t), in float64 on the host, shaped like t."""
        return self.coefficients(t)[1].sqrt()

    def reverse_drift(self, x: Tensor, t: Tensor | float, score: Tensor) -> Tensor:
        """f - g^2 score: with g, the drift of the SDE that runs from noise to data (eq. 6)."""
        rate, square = self.coefficients(t)
        return right(rate, x) * x - right(square, x) * score

    def flow_drift(self, x: Tensor, t: Tensor | float, score: Tensor) -> Tensor:
        """f - g^2 score / 2: dx / dt of the flow ODE (eq. 13), which is alpha' x0 + sigma' eps."""
        rate, square = self.coefficients(t)
        return right(rate, x) * x - right(square, x) * score / 2


def sde(schedule: Schedule) -> SDE:
    """The SDE of a schedule."""
    return SDE(schedule)
