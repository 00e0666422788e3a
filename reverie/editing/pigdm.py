r"""Guidance by the pseudo-inverse, and by the covariance that the denoiser itself tells.

Both replace the score of x by that of x given y = H x0 + sigma_y z, taking p(x0 | x) for a Gaussian N(x0(x), C):

    x0 <- x0 + C H^T (H C H^T + sigma_y^2)^-1 (y - H x0)

the mean of x0 given x and y. They differ in what they take C for.

Letters in shapes: B batch, ... the shape of one example, m... that of one measurement.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Wrapper
from reverie.editing.gradients import Traced, traced
from reverie.editing.measurement import Measurement
from reverie.editing.operators import Spectrum
from reverie.guidance.evaluations import moved
from reverie.prediction import Prediction
from reverie.schedules import Level
from reverie.tensors import right


class PiGDM(Wrapper):
    r"""C = sigma^2 / alpha J^T outside the inverse, and r^2 = var sigma^2 / (alpha^2 var + sigma^2) inside.

    Song et al. (2023), eq. 7 and 8, whose r^2 is that of var = 1. J is the Jacobian of x0(x). The inverse is a
    division in the operator's spectrum. For data N(m, var) it is exact: a solver of any kind then converges to the
    posterior. For other data the direction is right and the length is not: where data spread wider than var in some
    direction, guidance goes too far early on and comes back later, so take the larger of two guesses.

    They add alpha r^2 J^T (...) to the sample a step of DDIM makes, which for a hundred steps is much like this; here
    it is the score that changes, so that the limit of many steps exists, with any sampler. At alpha = 0, where x
    tells nothing of x0, C is r^2 = var in both places.

    One evaluation with its gradient at each call.

    Args:
        denoiser: the unconditional model.
        measurement: y, H and sigma_y.
        variance: var, of one number of the data in the model's space.

    Raises:
        ValueError: a variance of 0 or less.
    """

    def __init__(self, denoiser: Denoises, measurement: Measurement, variance: float = 1.0) -> None:
        super().__init__(denoiser)
        if not variance > 0:
            raise ValueError(f"PiGDM needs the variance of the data, above 0; given {variance}")
        self.measurement, self.variance = measurement, variance
        self._spectrum: tuple[object, Spectrum] | None = None

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        known = traced(self.denoiser, x, t, cond)
        spectrum, level, y = self._of(x), known.q.level, self.measurement.rows(x)
        r2, s2 = _by_row(spread(level, self.variance)), spectrum.values**2
        told = r2 * s2 + self.measurement.noise**2
        scale = spectrum.values / told.where(told > 0, 1.0)
        v = spectrum.back(scale * (spectrum.measured(y) - spectrum.values * spectrum.of(known.q.x0)))
        return moved(known.q, covariance(known, self.variance)(v, False))

    def _of(self, x: Tensor) -> Spectrum:
        """The operator's spectrum, computed once."""
        key = (x.shape[1:], x.dtype, x.device)
        if self._spectrum is None or self._spectrum[0] != key:
            self._spectrum = key, self.measurement.operator.spectrum(x)
        return self._spectrum[1]


class MomentMatched(Wrapper):
    r"""C = sigma^2 / alpha J in both places: the covariance of x0 given x, by Tweedie's formula of second order.

    Rozet et al. (2024), algorithm 3; Boys et al. (2024). The linear system is solved by `iterations` of the method of
    conjugate gradients, so H needs no spectrum. With as many of them as y has numbers it is exact for any Gaussian
    data, whatever their covariance. The Jacobian of a network is not quite symmetric, and where it says that nothing
    is left to learn, a second iteration may go far astray: more than 1 is for denoisers that are nearly exact.

    One evaluation and `iterations` + 1 gradients at each call. At alpha = 0 C is `variance`.

    Args:
        denoiser: the unconditional model.
        measurement: y, H and sigma_y.
        iterations: of conjugate gradients.
        variance: of one number of the data in the model's space.

    Raises:
        ValueError: fewer than 1 iteration, or a variance of 0 or less.
    """

    def __init__(
        self, denoiser: Denoises, measurement: Measurement, iterations: int = 1, variance: float = 1.0
    ) -> None:
        super().__init__(denoiser)
        if iterations < 1 or not variance > 0:
            raise ValueError(
                f"MomentMatched needs at least 1 iteration and a variance above 0; given {iterations} and {variance}"
            )
        self.measurement, self.iterations, self.variance = measurement, iterations, variance

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        known = traced(self.denoiser, x, t, cond)
        h, c = self.measurement.operator, covariance(known, self.variance)

        def system(v: Tensor) -> Tensor:
            return h.forward(c(h.transpose(v), True)) + self.measurement.noise**2 * v

        v = conjugate_gradients(system, self.measurement.residual(known.q.x0), self.iterations)
        return moved(known.q, c(h.transpose(v), False))


def spread(level: Level, variance: float) -> Tensor:
    """r^2 = var sigma^2 / (alpha^2 var + sigma^2): the variance of x0 given x, for data N(m, var)."""
    return variance * level.sigma**2 / (level.alpha**2 * variance + level.sigma**2)


def covariance(known: Traced, variance: float) -> Callable[[Tensor, bool], Tensor]:
    """v to C v = sigma^2 / alpha J^T v, and to r^2 v where alpha is 0; told whether it is wanted again."""
    level = known.q.level
    silent = level.alpha == 0
    factor = level.sigma**2 / level.alpha.where(~silent, 1.0)

    def product(v: Tensor, again: bool) -> Tensor:
        if bool(silent.all()):
            return spread(level, variance) * v
        found = factor * known.pulled(v, again)
        return torch.where(silent, spread(level, variance) * v, found) if bool(silent.any()) else found

    return product


def conjugate_gradients(system: Callable[[Tensor], Tensor], b: Tensor, iterations: int) -> Tensor:
    """v (B, m...) with system(v) = b, for a linear map that is symmetric and not negative; each example by itself.

    Hestenes & Stiefel (1952). An example whose residual is 0, to rounding of its b, is left as it is.
    """

    def product(u: Tensor, w: Tensor) -> Tensor:
        return right((u * w).flatten(1).sum(1), u)

    def ratio(u: Tensor, w: Tensor) -> Tensor:
        left = (rest > smallest) & (w > 0)
        return torch.where(left, u / w.where(left, 1.0), 0.0)

    v, r = torch.zeros_like(b), b
    p, rest = r, product(r, r)
    smallest = rest * torch.finfo(b.dtype).eps ** 2
    for _ in range(iterations):
        q = system(p)
        step = ratio(rest, product(p, q))
        v, r = v + step * p, r - step * q
        now = product(r, r)
        p, rest = r + ratio(now, rest) * p, now
    return v


def _by_row(a: Tensor) -> Tensor:
    """A coefficient of a level, to broadcast against (B, n)."""
    return a if a.ndim == 0 else a.reshape(-1, 1)
