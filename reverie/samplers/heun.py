"""Heun's method, with churn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.prediction import Prediction
from reverie.samplers.base import Sampler, State, at_data
from reverie.schedules import Schedule
from reverie.tensors import Noise, combined, host, number


@dataclass(frozen=True)
class Heun(Sampler, kind="heun", aliases={"k_heun": {}, "edm": {}}):
    r"""The trapezoidal rule on dx = x0 d alpha + eps d sigma, with an Euler (DDIM) predictor.

        x_s = x + (alpha_s - alpha_t) (x0_t + x0_s) / 2 + (sigma_s - sigma_t) (eps_t + eps_s) / 2

    Where alpha is constant (`VE`) this is Karras et al. (2022), algorithm 2; on `Flow` it is Heun's
    method on the velocity. It divides by neither alpha nor sigma, so it is of order 2 on every
    schedule, also from alpha = 0: two evaluations a step but one for the last.

    The step to t = 0 is Euler's in the paper, whose error, of order (sigma / alpha)^2, remains however
    many steps are taken to a fixed lowest level. Here eps goes on along the line through its last two
    values, in rho = sigma / alpha: x_0 = x / alpha - rho eps + rho^2 / 2 (eps' of that line), which
    costs nothing. The last step is Euler's by itself, with no step before it, and where churn raises it: the two
    values of eps then tell of different noise, and the line through them would leave some of it in the sample.

    Churn raises the level first, to sigma / alpha times 1 + `churn`, by adding noise of standard
    deviation `noise_scale` times what that takes (algorithm 2, lines 4 to 6): `churn` is S_churn /
    N, at most sqrt(2) - 1; it acts where sigma / alpha lies in [`churn_low`, `churn_high`], and
    never beyond the schedule's own noisiest level.

    Raises:
        ValueError: churn outside [0, sqrt(2) - 1], churn_low above churn_high, or a negative noise scale.
    """

    churn: float = 0.0
    churn_low: float = 0.0
    churn_high: float = 1e9
    noise_scale: float = 1.0

    order = 2

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= math.sqrt(2) - 1 + 1e-9:
            raise ValueError(f"Heun needs a churn a step in [0, sqrt(2) - 1 = 0.4142]; given {self.churn}")
        if not self.churn_low <= self.churn_high:
            raise ValueError(f"Heun needs churn_low <= churn_high; given {self.churn_low} and {self.churn_high}")
        if not self.noise_scale >= 0:
            raise ValueError(f"Heun needs a noise_scale of at least 0; given {self.noise_scale}")

    @property
    def deterministic(self) -> bool:
        return self.churn == 0

    @property
    def invertible(self) -> bool:
        return self.churn == 0

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        if self.churn > 0:
            x, up = self._churned(f.schedule, x, t, noise)
            t, state = up, state if up is t else None
        q, b = f(x, t, cond), f.schedule.at(s, like=x)
        alpha, sigma = number(b.alpha), number(b.sigma)
        if at_data(s):
            return q.mix(alpha, sigma) if state is None else _to_data(q, state), None
        x_s = q.mix(alpha, sigma)
        r = f(x_s, torch.where(s > 0, s, t) if s.ndim else s, cond)  # an example at s = 0 already keeps Euler's
        rise, fall = sigma - number(q.level.sigma), alpha - number(q.level.alpha)
        half = 0.5 if s.ndim == 0 else 0.5 * (b.sigma > 0)
        change = [*r.terms(half * fall, half * rise), *q.terms(-half * fall, -half * rise)]
        return combined([(1.0, x_s), *change]), q

    def _churned(self, schedule: Schedule, x: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """x and t after the rise of the noise level; both as given where it does not rise."""
        at = host(t)
        log_snr = schedule.log_snr(at)
        ratio = torch.exp(-log_snr / 2)
        inside = (ratio >= self.churn_low) & (ratio <= self.churn_high)
        higher = schedule.time(log_snr - 2 * math.log1p(self.churn))
        up = torch.where(inside, torch.maximum(higher, at), at)
        if bool((up == at).all()):
            return x, t
        a, c = schedule.at(at, like=x), schedule.at(up, like=x)
        keep = torch.where(c.t == a.t, torch.ones_like(a.alpha), c.alpha / a.alpha)
        added = (c.sigma**2 - (keep * a.sigma) ** 2).clamp_min(0).sqrt()
        return keep * x + self.noise_scale * added * noise(x), up


def _to_data(q: Prediction, before: Prediction) -> Tensor:
    """The last step, by the line through eps at two levels."""
    level, above = q.level, before.level
    rho, high = number(level.sigma / level.alpha), number(above.sigma / above.alpha)
    share = 0.5 * rho / (high - rho)  # 0 where the level before has alpha = 0
    return combined([(1.0, q.x0), (share * rho, before.eps), (-share * rho, q.eps)])
