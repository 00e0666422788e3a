r"""The flow ODE in the angle, in which it is smooth all the way from pure noise to data.

With theta = atan(sigma / alpha), from pi / 2 where alpha = 0 to 0 at the data, and r = sqrt(alpha^2 + sigma^2),
x / r = u = cos(theta) x0 + sin(theta) eps moves by

    du / dtheta = g = cos(theta) eps - sin(theta) x0.

Neither alpha nor sigma is divided by, and no schedule appears but in theta and r. On `Cosine` theta is pi t / 2 and
g is v. It is dy / drho = eps, for y = x / alpha and rho = sigma / alpha (Karras et al., 2022, eq. 4), written
in u = cos(theta) y.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.schedules import Schedule
from reverie.tensors import host, right


def polar(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """theta and r at t, in float64 on the host."""
    t = host(t)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return torch.atan2(sigma, alpha), torch.hypot(sigma, alpha)


def between(schedule: Schedule, theta: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The times at which the angles theta are reached, for theta between those of t and s; times lie there too."""
    time = schedule.time(2 * (theta.cos().log() - theta.sin().log()))
    return torch.minimum(torch.maximum(time, torch.minimum(t, s)), torch.maximum(t, s))


def slope(f: Denoises, u: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
    """g for u (B, ...) at t (B,)."""
    theta, r = polar(f.schedule, t)
    q = f(right(r, u) * u, t, cond)
    return q.mix(-right(theta.sin(), u), right(theta.cos(), u))
