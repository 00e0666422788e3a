"""Guidance of the mean by the variance, as in ADM's paper and in GLIDE.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.brownian import increment
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.pull import Pull, fixed_rows
from reverie.prediction import posterior
from reverie.samplers.base import Sampler, State, at_data
from reverie.tensors import Noise


@dataclass(frozen=True)
class MeanGuided(Sampler):
    """x_s = mean + scale Sigma g + sqrt(Sigma) z, with mean and Sigma of p(x_s | x_t) and g a `Pull`'s gradient at x_t.

    Dhariwal & Nichol (2021), algorithm 1, with a `LabelPull`; Nichol et al. (2022), GLIDE, section 2.4, with a
    `TextPull`. It is `Ancestral` with a mean that is moved, and there for parity: a wrapper such as
    `ClassifierGuided` serves every sampler. Under `Ancestral` that wrapper moves x_s alpha_s / alpha_t times as
    far as this does with the upper bound of the variance, so that both agree as steps grow short. It holds a
    model and so has no name in a recipe.
    """

    pull: Pull
    scale: float = 1.0
    fraction: float = 0.0
    """Of the way from the lower to the upper bound of the variance, as for `Ancestral`; a learned one wins."""

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        b = f.schedule.at(s, like=x)
        mean, log_var = posterior(f(x, t, cond), b, self.fraction)
        g = self.pull.gradient(f.schedule, x, t, cond, fixed_rows(f))
        if g is not None:
            mean = mean + self.scale * log_var.exp() * g
        if at_data(s):
            return mean, state
        return mean + (b.sigma > 0) * (0.5 * log_var).exp() * increment(noise, x, t, s), state
