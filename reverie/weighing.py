r"""Weights fitted to a denoiser: how much each remembered value should count for the steps to end where they ought to.

Along given times, with X_i the exact solution of the flow ODE at t_i for a batch of starts, the weights of
each step in turn minimise

    sum_b | w x_b + sum_j w_j m_bj - X_b |^2 / c_b + ridge sum_j (w_j - w*_j)^2 |m_j|^2

over the batch, x and m being what the steps before, with the weights already chosen, have come to; w* are
those of the method. That is a least-squares problem of a few unknowns a step: no gradient through the
network is taken, and a row of N steps costs N evaluations of the batch. Solvers of this form, their weights
found by gradients, are in Shaul et al. (2024).

Letters in shapes: B batch, N steps, k values remembered, ... the shape of one example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Wrapper
from reverie.prediction import Prediction
from reverie.samplers.base import Sampler
from reverie.samplers.multistep import Multistep, levels
from reverie.samplers.weighed import Weighed, angles
from reverie.schedules import Level, Schedule
from reverie.tensors import combined, host


def weigh(
    f: Denoises,
    method: Multistep,
    times: Tensor,
    x: Tensor,
    targets: Sequence[Tensor],
    cond: Cond | None = None,
    *,
    memory: int = 8,
    ridge: float = 1e-6,
    rounds: int = 0,
) -> Weighed:
    """The method with weights fitted along `times`.

    Args:
        f: the denoiser as it will be sampled from.
        method: what is remembered, and the weights that the fitted ones are held to.
        times: (N + 1,), decreasing to 0.
        x: (B, ...) at times[0].
        targets: N times (B, ...), the exact solution at times[1:].
        cond: what the denoiser is told.
        memory: how many values count, where there are as many.
        ridge: how much the weights are held to the method's, as a share of the values' own size.
        rounds: how often examples are weighed again by c = their distance from the target, for which
            far ones count less; 0 for the plain mean of squares.

    Raises:
        ValueError: not as many targets as steps, or a method that leaves the first step, from pure noise, to DDIM.
    """
    times = host(times)
    if len(targets) != len(times) - 1:
        raise ValueError(f"{len(times) - 1} steps need as many targets; given {len(targets)}")
    plan = method.plan(f.schedule, times, cross=False)
    if plan[0] is None:
        raise ValueError(
            f"{method.kind} remembers nothing from pure noise, so there are no weights to fit: begin at t < 1, or take "
            "a method that does, such as Adams()"
        )
    values: list[Tensor] = []
    rows = []
    for i, (t, target) in enumerate(zip(times[:-1].unbind(), targets, strict=True)):
        with torch.no_grad():
            q = f(x, t, cond)
        step = plan[i]
        assert step is not None, "only the first time can have alpha = 0"
        values = [q.mix(*step.value), *values][:memory]
        features = torch.stack([v.detach().to("cpu", torch.float64).flatten(1) for v in (x, *values)])
        own = torch.zeros(len(features), dtype=torch.float64)
        for j, w in enumerate((step.x, *step.m)[: len(own)]):
            own[j] = w
        row = own + _correction(features, own, target.detach().to("cpu", torch.float64).flatten(1), ridge, rounds)
        rows.append(tuple(row.tolist()))
        x = torch.tensordot(row, features, 1).reshape(x.shape).to(x)
    return Weighed(method, tuple(angles(f.schedule, times).tolist()), tuple(rows))


def passed(
    f: Denoises, method: Sampler, times: Tensor, x: Tensor, wanted: Sequence[float], cond: Cond | None = None
) -> list[Tensor]:
    """Where the solution from x (B, ...) along fine `times` is at each wanted angle, atan(sigma / alpha), falling.

    Between the times u = x / sqrt(alpha^2 + sigma^2) follows the cubic of its values and slopes, u' = cos(theta)
    eps - sin(theta) x0; below the last time that is not 0, the parabola of both values and the upper slope.

    Raises:
        ValueError: an angle outside those of the times.
    """
    heard = _Heard(f)
    theta = angles(f.schedule, host(times)).tolist()
    if wanted and not (theta[0] >= wanted[0] and wanted[-1] >= 0):
        raise ValueError(f"wanted angles must lie between {theta[0]:g} and 0; given {wanted[0]:g} to {wanted[-1]:g}")
    left, found = list(wanted), []
    above: tuple[float, Tensor, Tensor] | None = None
    state = method.start(f.schedule, times)
    for i, (t, s) in enumerate(zip(times[:-1].unbind(), times[1:].unbind(), strict=True)):
        with torch.no_grad():
            x_s, state = method.step(heard, x, t, s, cond, torch.zeros_like, state)
        here = (theta[i], _direction(x, heard.said.level), heard.said.mix(-math.sin(theta[i]), math.cos(theta[i])))
        while above is not None and left and left[0] >= here[0]:
            found.append(_rescaled(_cubic(above, here, left[0]), f.schedule, left.pop(0)))
        above, x = here, x_s
    assert above is not None
    for angle in left:
        share = angle / above[0]
        bent = (1 - share) ** 2 * x + share * (2 - share) * above[1] - share * (1 - share) * above[0] * above[2]
        found.append(_rescaled(bent, f.schedule, angle))
    return found


class _Heard(Wrapper):
    """The denoiser, and the first thing it said in this step."""

    said: Prediction

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        self.said = self.denoiser(x, t, cond)
        return self.said


def _direction(x: Tensor, level: Level) -> Tensor:
    return x / math.hypot(level.alpha.item(), level.sigma.item())


def _rescaled(u: Tensor, schedule: Schedule, angle: float) -> Tensor:
    """x for u at an angle."""
    if angle == 0:
        return u
    level = levels(schedule, schedule.time(-2 * host(math.tan(angle)).log()))
    return u * math.hypot(level.alpha.item(), level.sigma.item())


def _cubic(above: tuple[float, Tensor, Tensor], below: tuple[float, Tensor, Tensor], angle: float) -> Tensor:
    """Hermite's, through values and slopes at two angles."""
    (a, u, g), (b, v, h) = above, below
    r = (angle - a) / (b - a)
    value = [((1 + 2 * r) * (1 - r) ** 2, u), (r**2 * (3 - 2 * r), v)]
    slope = [((b - a) * r * (1 - r) ** 2, g), ((b - a) * r**2 * (r - 1), h)]
    return combined([*value, *slope])


def _correction(features: Tensor, own: Tensor, target: Tensor, ridge: float, rounds: int) -> Tensor:
    """The change of the weights (1 + k) for features (1 + k, B, D) to come to target (B, D)."""
    left = target - torch.tensordot(own, features, 1)
    share = torch.ones(len(target), dtype=torch.float64)
    for again in range(rounds + 1):
        a, b = (v * share[:, None].sqrt() for v in (features, left))
        a, b = a.flatten(1), b.flatten()
        square = a @ a.T
        held = square + ridge * torch.diag(square.diagonal()) + 1e-300 * torch.eye(len(square), dtype=torch.float64)
        change = torch.linalg.lstsq(held, (a @ b)[:, None]).solution[:, 0]
        if again < rounds:
            away = (left - torch.tensordot(change, features, 1)).square().mean(1).sqrt()
            share = 1 / (away + 0.1 * away.median() + 1e-300)
            share = share / share.mean()
    return change
