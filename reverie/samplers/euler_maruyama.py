"""The Euler-Maruyama method on the reverse SDE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State, at_data, check_signal
from reverie.schedules import Schedule
from reverie.sde import SDE
from reverie.tensors import Noise, host, right


@dataclass(frozen=True)
class EulerMaruyama(Sampler, kind="euler_maruyama"):
    r"""x_s = x - (f(x, t) - g(t)^2 score) (t - s) + g(t) sqrt(t - s) z.

    The reverse SDE of Song et al. (2021), eq. 6, with f and g of `reverie.sde.SDE`. The step to s = 0
    gives E[x0 | x], without noise: Euler's own would take off the noise that is left twice, wherever
    sigma ~ t (Jolicoeur-Martineau et al., 2021).

    f and g are infinite where alpha = 0. A schedule that ends in noise is sampled from a little below t
    = 1, where x is noise still: `Uniform(start=0.999)`, or a grid told in sigma / alpha.
    """

    def check(self, schedule: Schedule, times: Tensor) -> None:
        check_signal(self, schedule, times)

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        self.check(f.schedule, t)
        q = f(x, t, cond)
        if at_data(s):
            return q.x0, state
        rate, square = SDE(f.schedule).coefficients(t)
        h = host(t) - host(s)
        drift = right(rate, x) * x + right(square / f.schedule.sigma(host(t)), x) * q.eps  # score = -eps / sigma
        x_s = x - right(h, x) * drift + right((square * h).sqrt(), x) * noise(x)
        return torch.where(right(host(s), x) > 0, x_s, q.x0), state
