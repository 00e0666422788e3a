"""The Euler-Maruyama method on the reverse SDE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.brownian import increment
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State, at_data, check_signal
from reverie.schedules import Schedule
from reverie.sde import SDE
from reverie.tensors import Noise, combined, host, number, right


@dataclass(frozen=True)
class EulerMaruyama(Sampler, kind="euler_maruyama"):
    r"""x_s = x - (f(x, t) - g(t)^2 score) (t - s) + g(t) sqrt(t - s) z.

    The reverse SDE of Song et al. (2021), eq. 6, with f and g of `reverie.sde.SDE`. The step to s = 0
    gives E[x0 | x], without noise: Euler's own would take off the noise that is left twice, wherever
    sigma ~ t (Jolicoeur-Martineau et al., 2021).

    sqrt(t - s) z is the increment of a Brownian path, where `noise` is one (`reverie.brownian`). As g is
    a function of t alone, more steps then come nearer to that path's own solution with order 1.

    f and g are infinite where alpha = 0. A schedule that ends in noise is sampled from a little below t
    = 1, where x is noise still: `Uniform(start=0.999)`, or a grid told in sigma / alpha.
    """

    def check(self, schedule: Schedule, times: Tensor) -> None:
        check_signal(self, schedule, times)

    def start(self, schedule: Schedule, times: Tensor) -> State:
        """The factors of every step, and how many are done."""
        times = host(times)
        each = (c.tolist() for c in _factors(schedule, times[:-1], times[1:]))
        return tuple(zip(*each, strict=True)), 0

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        if state is None:
            self.check(f.schedule, t)
            kept, slope, added = (number(right(c, x)) for c in _factors(f.schedule, host(t), host(s)))
        else:
            plan, done = state
            (kept, slope, added), state = plan[done], (plan, done + 1)
        q = f(x, t, cond)
        if at_data(s):
            return q.x0, state
        x_s = combined([(kept, x), *q.terms(0.0, slope), (added, increment(noise, x, t, s))])
        return (x_s if s.ndim == 0 else torch.where(right(host(s), x) > 0, x_s, q.x0)), state


def _factors(schedule: Schedule, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Those on x, eps and z; score = -eps / sigma."""
    rate, square = SDE(schedule).coefficients(t)
    h = t - s
    return 1 - h * rate, -h * square / schedule.sigma(t), (square * h).sqrt()
