"""Reverse diffusion sampling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.brownian import increment
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State, at_data
from reverie.tensors import Noise, combined, number


@dataclass(frozen=True)
class ReverseDiffusion(Sampler, kind="reverse_diffusion"):
    r"""x_s = (2 - r) x + w score + sqrt(w) z.

    The reverse SDE in the steps of the forward chain, x_t = r x_s + sqrt(w) z with r = alpha_t /
    alpha_s and w = sigma_t^2 - r^2 sigma_s^2: Song et al. (2021), eq. 46, whose f is (r - 1) x and
    whose G is sqrt(w). Between the knots of a chain r = sqrt(1 - beta) and w = beta; where alpha = 1, w
    = sigma_t^2 - sigma_s^2. The step to s = 0 gives E[x0 | x], without noise.

    z is the increment of a Brownian path, where `noise` is one: see `reverie.brownian`.
    """

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        q, b = f(x, t, cond), f.schedule.at(s, like=x)
        if at_data(s):
            return q.x0, state
        a = q.level
        ratio = a.alpha / b.alpha
        w = (a.sigma**2 - (ratio * b.sigma) ** 2).clamp_min(0)
        kept, slope, added = (number(c) for c in (2 - ratio, -w / a.sigma, w.sqrt()))
        x_s = combined([(kept, x), *q.terms(0.0, slope), (added, increment(noise, x, t, s))])
        return (x_s if s.ndim == 0 else torch.where(b.sigma > 0, x_s, q.x0)), state
