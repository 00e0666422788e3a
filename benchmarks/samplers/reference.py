r"""The exact curve: the flow ODE from a problem's noise, solved by an embedded Runge-Kutta pair in float64.

In the angle theta = atan(rho / c), rho = sigma / alpha and c the spread of the data, with x scaled to
u = x / sqrt(alpha^2 c^2 + sigma^2),

    du / dtheta = cos(theta) eps - sin(theta) x0 / c,

which is smooth from pure noise (theta = pi/2) to the data (theta = 0). Dormand and Prince's pair of order
8 (Hairer, Norsett & Wanner, 1993, as in scipy) follows it for all samples at once; the same at a hundred
times the tolerance says how far it may be off. It goes in steps of tau, theta = k sinh(tau), because what
is told log sigma, as networks are, varies with log theta near the data.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

import reverie
from benchmarks.samplers.problems import DOUBLE, Problem
from reverie.denoiser import Denoises
from reverie.files import atomic

FLOW = reverie.Flow()


class Asked:
    """A problem's denoiser, told alpha and sigma as they are, for anyone's convention; counts its evaluations.

    It runs under `Flow`, which holds every level from pure noise to the data: x0 and eps carry over from
    any other process with the same sigma / alpha.
    """

    def __init__(self, problem: Problem, precise: bool = False) -> None:
        self.problem = problem
        self.make = problem.precise if precise and problem.precise is not None else problem.make
        self.f, self.cond, self.calls = self.make(FLOW), problem.cond, 0

    @torch.no_grad()
    def __call__(self, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """x0 and eps, like x (B, ...), for x = alpha x0 + sigma eps."""
        self.calls += 1
        q = self.f(x / (alpha + sigma), torch.tensor(sigma / (alpha + sigma), dtype=DOUBLE), self.cond)
        return q.x0, q.eps

    def under(self, schedule: reverie.Schedule) -> Counted:
        """The denoiser of another process as Reverie's own samplers see it, counted here."""
        return Counted(self, self.make(schedule))


class Counted:
    """A denoiser whose evaluations are added to those of `asked`."""

    def __init__(self, asked: Asked, f: Denoises) -> None:
        self.asked, self.f, self.schedule = asked, f, f.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: reverie.Cond | None = None) -> reverie.Prediction:
        self.asked.calls += 1
        return self.f(x, t, cond)


def solve(problem: Problem, alpha: float, sigma: float, tolerance: float) -> Tensor:
    """Where the flow ODE takes x = sigma noise from (alpha, sigma) to the data."""
    ask, c, shape = Asked(problem, precise=True), problem.spread, problem.noise.shape
    near = 1e-5 if problem.network else 1e-2  # theta = near sinh(tau)
    floor = 1e-9 / near  # eps at sigma = 0 is no question; below, nothing moves by more

    def slope(tau: float, u: np.ndarray) -> np.ndarray:
        theta, rate = near * math.sinh(max(tau, floor)), near * math.cosh(tau)
        x0, eps = ask(torch.from_numpy(u).reshape(shape), math.cos(theta) / c, math.sin(theta))
        return (rate * (math.cos(theta) * eps - math.sin(theta) / c * x0)).numpy().ravel()

    size = math.hypot(alpha * c, sigma)
    first = (problem.noise * (sigma / size)).numpy().ravel()
    found = solve_ivp(
        slope,
        (math.asinh(math.atan2(sigma, alpha * c) / near), 0.0),
        first,
        method="DOP853",
        t_eval=[0.0],
        rtol=tolerance,
        atol=tolerance,
    )
    problem.spent.append(ask.calls)
    if not found.success:
        raise RuntimeError(f"no reference for {problem.name} from {problem.start}: {found.message}")
    return torch.from_numpy(found.y[:, 0] * c).reshape(shape)


def reference(problem: Problem, alpha: float, sigma: float) -> Tensor:
    """The exact samples from this start; starts within 1e-8 of each other in theta share one.

    The first start of a problem is also solved at a hundred times the tolerance: `problem.doubt` is the
    largest distance of a sample. A network's are kept on disk (`problem.cache`).
    """
    key = round(math.atan2(sigma, alpha), 8)
    if key not in problem.references:
        problem.references[key] = kept(problem, alpha, sigma)
    if not problem.doubt:
        rough = solve(problem, alpha, sigma, 100 * problem.tolerance)
        problem.doubt.append(float(distance(problem.references[key], rough).max()))
    return problem.references[key]


def kept(problem: Problem, alpha: float, sigma: float) -> Tensor:
    """`solve`, or what it found before."""
    if problem.cache is None:
        return solve(problem, alpha, sigma, problem.tolerance)
    told = f"{problem.cache.name} {math.atan2(sigma, alpha):.8f} {problem.tolerance} {tuple(problem.noise.shape)}"
    path = problem.cache.parent / "references" / f"{hashlib.sha256(told.encode()).hexdigest()[:20]}.npy"
    if not path.exists():
        found = solve(problem, alpha, sigma, problem.tolerance).numpy()
        with atomic(path) as temp:
            np.save(temp, found)
    return torch.from_numpy(np.load(path))


def distance(a: Tensor, b: Tensor) -> Tensor:
    """(B,) the root mean square over coordinates of a - b."""
    return (a - b).flatten(1).square().mean(1).sqrt()
