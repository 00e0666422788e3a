r"""Adams' multistep method in the angle between data and noise.

Letters in shapes: k nodes, newest first, ... the times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.samplers.interpolation import plain
from reverie.samplers.multistep import Multistep, Weights
from reverie.schedules import Level

_SHORT, _LONG = 0.25, 0.38
"""Steps up to which all values count, and from which on the newest alone."""


@dataclass(frozen=True)
class Adams(Multistep, kind="adams"):
    r"""du/dtheta = g, with g interpolated by polynomials in theta, from pure noise to the data.

        theta = atan(sigma / (alpha std)),   r = sqrt(alpha^2 std^2 + sigma^2),   u = x / r
        g = cos(theta) eps - sin(theta) x0 / std

    As x = alpha x0 + sigma eps, u = cos(theta) x0 / std + sin(theta) eps, and along the flow ODE the
    change of x0 and that of eps cancel in it, which leaves u' = g on every schedule. Neither end is
    singular: theta = pi / 2 where alpha = 0, and theta = 0 at the data. For Gaussian data of standard
    deviation `std` about 0, g = 0.

    One evaluation a step. The predictor (Adams-Bashforth) goes through the newest `order` - 1 values
    of g; the corrector (Adams-Moulton) takes the step again through `order` of them when the next is
    known, and is folded into the next predictor (see `Multistep`). Hairer, Norsett & Wanner (1993),
    section III.1, on nodes of any spacing, with exact weights. While fewer values than `order` are
    known, the corrector takes all steps from the start again, through all of them.

    Data with a density have another value that costs nothing: d x / alpha = -score d(rho^2) / 2 with
    rho = sigma / alpha, so that x / alpha is a smooth function of rho^2, u an even function of theta,
    and g(0) = 0. The last step therefore interpolates, with 0 as a node, where others extrapolate or
    drop all that is left; so does every predictor that has 0 no farther ahead than 4/3 of the way back to
    its oldest value.

    Pictures have none: pixels lie on a grid, many of them at its ends, eps stays of size 1 there, and so does
    g. So it is with x0 clipped to a range. Without a density the method is of one order less, and the
    last step from theta goes through its newest two values; with the weight min(1/2, 12 theta^2) that of
    0 is one more, as extrapolation over a long step is worse than either.

    Polynomials through several values are no help over long steps: a few samples, near where modes part, would be
    thrown off. From steps of 0.25 on, ever more of the step, and from 0.38 on all of it, is of order 2. So it is with 6
    equal steps and fewer. Without a density it is not needed.

    A single step from beyond theta = pi / 4 to the data is DDIM's.

    Args:
        order: of convergence on data with a density: of the local error at every step but the first.
            That of the first is of order 4 from pure noise, since x0 does not depend on x there, and of
            order 3 from elsewhere: above that, the first step must be short beside the others.
        std: the standard deviation of the data; 1 unless given. A run gives its own.
        density: whether the data have one; they do unless told otherwise. A run tells: not where they lie on a grid.

    Raises:
        ValueError: order outside 1 ... 6, or std <= 0.
    """

    order: int = 4
    std: float | None = None
    density: bool | None = None
    from_noise = True

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 6:
            raise ValueError(f"Adams has orders 1 to 6; given order={self.order}")
        if self.std is not None and not 0 < self.std < math.inf:
            raise ValueError(f"Adams needs the standard deviation of the data, a positive number; given {self.std}")

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def spread(self) -> float:
        """`std`, or 1."""
        return 1.0 if self.std is None else self.std

    @property
    def _nodes(self) -> int:
        """How many values the corrector goes through."""
        return self.order if self.density is not False else max(1, self.order - 1)

    @property
    def memory(self) -> int:
        return max(1, self._nodes - 1)

    def _angle(self, level: Level) -> tuple[Tensor, Tensor]:
        """theta and r."""
        data = self.spread * level.alpha
        return torch.atan2(level.sigma, data), torch.hypot(level.sigma, data)

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        theta, _ = self._angle(level)
        return -theta.sin() / self.spread, theta.cos()

    def predictor(self, nodes: Level, s: Level) -> Weights:
        (theta, r), (end, r_s) = self._angle(nodes), self._angle(s)
        w, m = torch.ones_like(end), self._integral(theta, end)
        if len(theta) == 1:  # a single step over most of the way: DDIM's
            whole = (end == 0) & (theta[0] > math.pi / 4)
            w, m = torch.where(whole, theta[0].cos(), w), torch.where(whole, -theta.sin(), m)
        return Weights(w * r_s / r[0], r_s * m)

    def _integral(self, theta: Tensor, end: Tensor) -> Tensor:
        """The predictor's weights of g at theta (k, ...), newest first, for a step to the end."""
        if self.density is False:
            return _without_density(theta, end)
        return _mixed(_with_density(theta, end), _with_density(theta[:1], end), theta[0] - end)

    def corrector(self, nodes: Level) -> Weights | None:
        if self._nodes == 1:
            return None
        theta, r = self._angle(nodes)
        m = plain(theta, theta[1], theta[0])
        if 2 < len(theta) < self._nodes:  # all that is known since the start: earlier steps are taken again
            m = plain(theta, theta[-1], theta[0])
            m[1:] -= plain(theta[1:], theta[-1], theta[1])
        if self.density is not False:
            m = _mixed(m, plain(theta[:2], theta[1], theta[0]), theta[1] - theta[0])
        return Weights(r[0] / r[1], r[0] * m)


def _mixed(m: Tensor, few: Tensor, h: Tensor) -> Tensor:
    """Weights (k, ...) and, the longer the step h, those of fewer values."""
    share = ((_LONG - h) / (_LONG - _SHORT)).clamp(0, 1)
    low = torch.zeros_like(m)
    low[: len(few)] = few
    return share * m + (1 - share) * low


def _to_zero(theta: Tensor, end: Tensor) -> Tensor:
    """The weights of g at theta (k, ...) for the integral from theta_0 to the end, with g(0) = 0 one value more."""
    return plain(torch.cat([theta, torch.zeros_like(theta[:1])]), theta[0], end)[:-1]


def _with_density(theta: Tensor, end: Tensor) -> Tensor:
    """The weights of g at theta (k, ...), newest first, for a step to the end."""
    near = (end == 0) | (1.75 * theta[0] <= theta[-1])
    return torch.where(near, _to_zero(theta, end), plain(theta, theta[0], end))


def _without_density(theta: Tensor, end: Tensor) -> Tensor:
    """The same where g(0) is not known to be 0."""
    m, last = plain(theta, theta[0], end), end == 0
    share = torch.where(last, (12 * theta[0] ** 2).clamp_max(0.5), 0.0)
    newest = torch.zeros_like(m)
    newest[:2] = share * _to_zero(theta[:2], end) + (1 - share) * plain(theta[:2], theta[0], end)
    return torch.where(last, newest, m)
