"""Heun's method, with churn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State, at_data
from reverie.schedules import Schedule
from reverie.tensors import Noise, host


@dataclass(frozen=True)
class Heun(Sampler, kind="heun"):
    r"""The trapezoidal rule on dx = x0 d alpha + eps d sigma, with an Euler (DDIM) predictor.

        x_s = x + (alpha_s - alpha_t) (x0_t + x0_s) / 2 + (sigma_s - sigma_t) (eps_t + eps_s) / 2

    Where alpha is constant (`VE`) this is Karras et al. (2022), algorithm 2; on `Flow` it is Heun's
    method on the velocity. It divides by neither alpha nor sigma, so it is of order 2 on every
    schedule, also from alpha = 0. The step to t = 0 is Euler's: two evaluations a step but one for
    the last.

    Churn raises the level first, to sigma / alpha times 1 + `churn`, by adding noise of standard
    deviation `noise_scale` times what that takes (algorithm 2, lines 4 to 6): `churn` is S_churn /
    N, at most sqrt(2) - 1; it acts where sigma / alpha lies in [`churn_low`, `churn_high`], and
    never beyond the schedule's own noisiest level.

    Raises:
        ValueError: churn outside [0, sqrt(2) - 1], or a negative noise scale.
    """

    churn: float = 0.0
    churn_low: float = 0.0
    churn_high: float = 1e9
    noise_scale: float = 1.0
    order: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= math.sqrt(2) - 1 + 1e-9:
            raise ValueError(f"Heun needs a churn a step in [0, sqrt(2) - 1 = 0.4142]; given {self.churn}")
        if self.noise_scale < 0:
            raise ValueError(f"Heun needs a noise_scale of at least 0; given {self.noise_scale}")

    @property
    def deterministic(self) -> bool:
        return self.churn == 0

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        if self.churn > 0:
            x, t = self._churned(f.schedule, x, t, noise)
        q, b = f(x, t, cond), f.schedule.at(s, like=x)
        x_s = b.alpha * q.x0 + b.sigma * q.eps
        if at_data(s):
            return x_s, state
        r = f(x_s, torch.where(s > 0, s, t), cond)  # an example that is at s = 0 already keeps Euler's
        half = 0.5 * (b.sigma > 0)
        a = q.level
        change = (b.alpha - a.alpha) * (r.x0 - q.x0) + (b.sigma - a.sigma) * (r.eps - q.eps)
        return x_s + half * change, state

    def _churned(self, schedule: Schedule, x: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """x and t after the rise of the noise level."""
        t = host(t)
        log_snr = schedule.log_snr(t)
        ratio = torch.exp(-log_snr / 2)
        inside = (ratio >= self.churn_low) & (ratio <= self.churn_high)
        higher = schedule.time(log_snr - 2 * math.log1p(self.churn))
        up = torch.where(inside, torch.maximum(higher, t), t)
        if bool((up == t).all()):
            return x, t
        a, c = schedule.at(t, like=x), schedule.at(up, like=x)
        keep = torch.where(c.t == a.t, torch.ones_like(a.alpha), c.alpha / a.alpha)
        added = (c.sigma**2 - (keep * a.sigma) ** 2).clamp_min(0).sqrt()
        return keep * x + self.noise_scale * added * noise(x), up
