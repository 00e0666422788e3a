"""Multistep sampling of consistency models."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State, at_data
from reverie.tensors import Noise, combined, number


@dataclass(frozen=True)
class Consistency(Sampler, kind="consistency", aliases={"lcm": {}, "k_lcm": {}}):
    r"""x_s = alpha_s x0(x_t, t) + sigma_s z.

    Song et al. (2023), algorithm 1, for any schedule: the denoiser's x0 is put under fresh noise again and again; at
    s = 0 it is the sample.

    This is for a consistency model, whose x0(x_t, t) is where the flow ODE ends that passes x_t. If it is exact, x0
    has the law of the data at every step, so x_s has the law of the process at s. The x0 of an ordinary denoiser is the
    mean E[x0 | x_t], which varies less than the data do: from it the steps do not make the data's law, however many.
    For standard normal data on `Cosine` a step leaves x_s a variance of alpha_s^2 alpha_t^2 + sigma_s^2, not 1. Use
    `DDIM(1.0)` or `Ancestral` for those.
    """

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        x0 = f(x, t, cond).x0
        if at_data(s):
            return x0, state
        b = f.schedule.at(s, like=x)
        return combined([(number(b.alpha), x0), (number(b.sigma), noise(x))]), state
