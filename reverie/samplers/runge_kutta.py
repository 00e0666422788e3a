"""Runge-Kutta methods on the flow ODE: midpoint, and the classical one of order 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reverie.samplers.angle import between, polar
from reverie.samplers.singlestep import Plan, Singlestep, Stage
from reverie.schedules import Schedule


@dataclass(frozen=True)
class Tableau:
    """k_i = y'(y + h sum_j a_ij k_j) at the fraction c_i = sum_j a_ij of the step; y_s = y + h sum_j b_j k_j.

    Row i of `a` has i entries.
    """

    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]

    @property
    def c(self) -> tuple[float, ...]:
        """Where in the step each k is asked for: 0 at its start, 1 at its end."""
        return tuple(sum(row) for row in self.a)

    @property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """Those of `a`, and `b` below."""
        return (*self.a, self.b)


MIDPOINT = Tableau(((), (1 / 2,)), (0.0, 1.0))
HEUN_3 = Tableau(((), (1 / 3,), (0.0, 2 / 3)), (1 / 4, 0.0, 3 / 4))
CLASSICAL = Tableau(((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))


class RungeKutta(Singlestep):
    r"""A Runge-Kutta method on the flow ODE, in coordinates turned to the middle of each step.

    In y = x / alpha and rho = sigma / alpha = tan(theta) the ODE is dy / drho = eps (Karras et al., 2022, eq. 4), and
    rho is infinite at alpha = 0. But the ODE looks the same when the plane of x0 and eps is turned by any angle c:
    with phi = theta - c and r = sqrt(alpha^2 + sigma^2),

        y = x / (r cos(phi)),    rho = tan(phi),    dy / drho = cos(c) eps - sin(c) x0.

    Here c is the angle half way from t to s (`reverie.samplers.angle`), so that nothing is infinite and the order is
    that of the method on every schedule, from alpha = 0 too. For data that are a point dy / drho is constant and any
    step is exact, as with DDIM.

    No denoiser is asked at t = 0, so the step that ends there takes the tableau `last`, which does not look at the
    end of its step and may be of one order less: that is one step, whose error does not add up.
    """

    tableau: ClassVar[Tableau]
    last: ClassVar[Tableau]

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def invertible(self) -> bool:
        return True

    def stages(self, schedule: Schedule, t: Tensor, s: Tensor) -> Plan:
        final = s == 0
        if self.tableau == self.last or not bool(final.any()):
            return arc(self.tableau, schedule, t, s)
        if bool(final.all()):
            return arc(self.last, schedule, t, s)
        plain = arc(self.tableau, schedule, t, torch.where(final, t / 2, s))  # not to be followed where final
        ended = arc(_padded(self.last, len(self.tableau.b)), schedule, t, s)
        return tuple(chosen(final, a, b) for a, b in zip(ended, plain, strict=True))


def arc(tableau: Tableau, schedule: Schedule, t: Tensor, s: Tensor) -> Plan:
    """Steps from t to s, both (n,): x_i = r_i cos(phi_i) (x / (r_t cos(phi_t)) + h sum_j a_ij k_j)."""
    (high, r_t), (low, r_s) = polar(schedule, t), polar(schedule, s)
    middle, half = (high + low) / 2, ((low - high) / 2).tan()
    start = r_t * (high - middle).cos()
    found = []
    for c, row in zip((*tableau.c, 1.0), tableau.rows, strict=True):
        if c in (0.0, 1.0):
            time, theta, r = (t, high, r_t) if c == 0 else (s, low, r_s)
        else:
            time = between(schedule, middle + ((2 * c - 1) * half).atan(), t, s)
            theta, r = polar(schedule, time)
        scale = r * (theta - middle).cos()
        kept = scale / start
        kept = torch.where((kept - 1).abs() < 1e-15, 1.0, kept)  # a weight of exactly 1 saves a kernel
        weights = tuple(w * scale * 2 * half if w else 0.0 for w in row)
        found.append(Stage(time, kept, weights, -middle.sin(), middle.cos()))
    return tuple(found)


def chosen(where: Tensor, a: Stage, b: Stage) -> Stage:
    """a where (n,) is true, b elsewhere."""
    t, *rest = (
        torch.where(where, torch.as_tensor(p, dtype=torch.float64), torch.as_tensor(q, dtype=torch.float64))
        for p, q in zip((a.t, *a.numbers()), (b.t, *b.numbers()), strict=True)
    )
    return Stage(t, rest[0], tuple(rest[1:-3]), *rest[-3:])


def _padded(tableau: Tableau, stages: int) -> Tableau:
    """The same method, its last stage repeated to no effect."""
    more = stages - len(tableau.b)
    a = tableau.a + tuple((*tableau.a[-1], *(0.0,) * (i + 1)) for i in range(more))
    return Tableau(a, tableau.b + (0.0,) * more)


@dataclass(frozen=True)
class Midpoint(RungeKutta, kind="midpoint"):
    r"""y_s = y + h k2, with k2 at y + h / 2 k1: two evaluations a step, the last one too.

    Runge (1895), on the flow ODE: see `RungeKutta`. It never asks at the end of a step, so no step is special. Written
    out for u = x / r and g = cos(theta) eps - sin(theta) x0, with a = theta_s - theta_t, it goes half way by DDIM,
    u_m = cos(a / 2) u + sin(a / 2) g, and from the start on by u_s = u + 2 sin(a / 2) g_m. On Gaussian data its
    order is 3.
    """

    order = 2
    tableau = last = MIDPOINT


@dataclass(frozen=True)
class RK4(RungeKutta, kind="rk4"):
    r"""y_s = y + h / 6 (k1 + 2 k2 + 2 k3 + k4), with k2 and k3 in the middle of the step and k4 at its end.

    Kutta (1901), on the flow ODE: see `RungeKutta`. Four evaluations a step; the step to t = 0 takes three, by Heun's
    method of order 3 (Heun, 1900), which asks at 0, 1/3 and 2/3 of it.
    """

    order = 4
    tableau, last = CLASSICAL, HEUN_3
