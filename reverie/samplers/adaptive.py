"""Embedded Runge-Kutta pairs, with steps chosen by a tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.angle import between, polar, slope
from reverie.samplers.base import Sampler, State
from reverie.samplers.runge_kutta import Tableau
from reverie.tensors import Noise, host, right

_BOGACKI_SHAMPINE = Tableau(((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)), (2 / 9, 1 / 3, 4 / 9, 0.0))
_DORMAND_PRINCE = Tableau(
    (
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
)
_PAIRS = {
    3: (_BOGACKI_SHAMPINE, (5 / 72, -1 / 12, -1 / 9, 1 / 8)),
    5: (_DORMAND_PRINCE, (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)),
}
"""By order: the tableau, whose last stage is the first of the next step, and the weights of the error."""

Slope = Callable[[Tensor, Tensor], Tensor]
"""g of u (B, ...) and theta (B,)."""


@dataclass(frozen=True)
class Adaptive(
    Sampler,
    kind="adaptive",
    aliases={"rk45": {"order": 5}, "dopri5": {"order": 5}, "rk23": {"order": 3}},
):
    r"""u_s = u + h sum_i b_i k_i in the angle (`reverie.samplers.angle`), with h such that |h sum_i e_i k_i| is small.

    `order` 3 is the pair 3(2) of Bogacki & Shampine (1989), 5 the pair 5(4) of Dormand & Prince (1980). A step is kept
    if its error, the root mean square over an example of err / (atol + rtol max(|u|, |u_s|)), is below 1; the next
    is 0.9 error^(-1 / order) times as long, within a factor of 0.2 to 10 (Hairer et al., 1993, II.4). First step,
    control and norm are those of SciPy's `solve_ivp`, whose steps these are. u is of unit size whatever the schedule.

    Each example has steps of its own, so that a sample does not depend on its batch; the denoiser is asked about the
    whole batch until all have arrived. The grid's times are stopped at: with one step, as `Uniform(1)` has, the
    tolerance alone decides. The last stretch, from sigma / alpha = `low` to 0, is one step of `Midpoint`,
    whose error is of order low^3. The number of evaluations follows from the data, which takes a look at the device
    in each step.

    Raises:
        ValueError: an order other than 3 and 5, tolerances or a low that are not positive; while sampling, when a
            step of the grid takes more than `evaluations`.
    """

    order: int = 5
    rtol: float = 1e-5
    atol: float = 1e-5
    low: float = 0.002
    evaluations: int = 10_000

    def __post_init__(self) -> None:
        if self.order not in _PAIRS:
            raise ValueError(f"Adaptive has pairs of order 3 and 5; given order={self.order}")
        if not (self.rtol >= 0 and self.atol > 0 and 0 < self.low < 1 and self.evaluations >= 1):
            raise ValueError(
                f"Adaptive needs rtol >= 0, atol > 0, 0 < low < 1 and evaluations >= 1; given rtol={self.rtol}, "
                f"atol={self.atol}, low={self.low}, evaluations={self.evaluations}"
            )

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def adaptive(self) -> bool:
        return True

    @property
    def invertible(self) -> bool:
        return True

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        t, s = (host(a).expand(len(x)) for a in (t, s))
        (start, r_t), (goal, r_s) = polar(f.schedule, t), polar(f.schedule, s)
        end = torch.where(s == 0, torch.clamp(start, max=math.atan(self.low)), goal)
        asked = 0

        def g(u: Tensor, theta: Tensor) -> Tensor:
            nonlocal asked
            asked += 1
            if asked > self.evaluations:
                raise ValueError(
                    f"Adaptive took more than {self.evaluations} evaluations from t = {float(t.max()):g} to "
                    f"{float(s.min()):g}: raise rtol={self.rtol:g} or atol={self.atol:g}, which may be below what "
                    f"{x.dtype} resolves, or raise evaluations"
                )
            return slope(f, u, torch.where(theta == start, t, between(f.schedule, theta, t, s)), cond)

        u = x / right(r_t, x)
        u, k, h = self._integrated(g, u, start, end, state)
        if bool((s == 0).any()):
            ahead = goal - end  # 0 for those that have arrived
            half = ahead / 2
            k = g(right(half.cos(), u) * u + right(half.sin(), u) * k, end + half)
            u = u + right(2 * half.sin(), u) * k
        return right(r_s, u) * u, h

    def _integrated(self, g: Slope, u: Tensor, start: Tensor, end: Tensor, h: Tensor | None) -> tuple[Tensor, ...]:
        """u and its slope at `end`, and the step (B,) to go on with."""
        sign = torch.sign(end - start)
        theta, k = start, g(u, start)
        h = self._first(g, u, k, start, end) if h is None else h
        again = torch.zeros_like(theta, dtype=torch.bool)  # after a step that was not kept, the next does not grow
        while bool((theta != end).any()):
            left = (end - theta).abs()
            taken = torch.minimum(h, left)
            u_s, k_s, error = self._tried(g, u, k, theta, sign * taken)
            factor = (0.9 * error ** (-1 / self.order)).clamp(0.2, 10.0).nan_to_num(0.2)
            kept = (error < 1) & (theta != end)
            factor = torch.where(kept, torch.where(again, factor.clamp(max=1.0), factor), factor.clamp(max=1.0))
            proposed = taken * factor
            proposed = torch.where(kept & (left < h), torch.maximum(proposed, h), proposed)  # it was cut, not too long
            h = torch.where(theta != end, proposed, h)
            again = ~kept
            where = right(kept, u).to(torch.bool)
            u, k = torch.where(where, u_s, u), torch.where(where, k_s, k)
            theta = torch.where(kept, torch.where(taken == left, end, theta + sign * taken), theta)
        return u, k, h

    def _tried(self, g: Slope, u: Tensor, k: Tensor, theta: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u and its slope after a step h (B,), and the error in units of what is tolerated."""
        tableau, weights = _PAIRS[self.order]
        slopes, u_s, step = [k], u, right(h, u)
        for c, row in list(zip(tableau.c, tableau.a, strict=True))[1:]:
            u_s = u + step * _sum(row, slopes)
            slopes.append(g(u_s, theta + c * h))
        scale = self.atol + self.rtol * torch.maximum(u.abs(), u_s.abs())
        return u_s, slopes[-1], _norm(step * _sum(weights, slopes) / scale)

    def _first(self, g: Slope, u: Tensor, k: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """The first step (B,), Hairer et al. (1993), II.4, with one evaluation."""
        scale, left = self.atol + self.rtol * u.abs(), (end - start).abs()
        size, speed = _norm(u / scale), _norm(k / scale)
        h = torch.where((size < 1e-5) | (speed < 1e-5), 1e-6, 0.01 * size / speed).minimum(left)
        toward = torch.sign(end - start) * h
        bend = _norm((g(u + right(toward, u) * k, start + toward) - k) / scale) / h
        most = torch.maximum(speed, bend)
        longest = torch.where(most <= 1e-15, (h * 1e-3).clamp_min(1e-6), (0.01 / most) ** (1 / self.order))
        return (100 * h).minimum(longest).minimum(left).nan_to_num(0.0)  # an example that has nowhere to go


def _sum(weights: tuple[float, ...], slopes: list[Tensor]) -> Tensor:
    total = weights[0] * slopes[0]
    for w, k in zip(weights[1:], slopes[1:], strict=True):
        if w:
            total.add_(k, alpha=w)
    return total


def _norm(e: Tensor) -> Tensor:
    """The root mean square of each example (B,), in float64 on the host."""
    return host(e.flatten(1).double().square().mean(1).sqrt())
