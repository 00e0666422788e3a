"""Ancestral sampling of the reverse chain."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.brownian import increment
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.prediction import posterior
from reverie.samplers.base import Sampler, State, at_data
from reverie.tensors import Noise


@dataclass(frozen=True)
class Ancestral(Sampler, kind="ancestral", aliases={"ddpm": {}}):
    """x_s = mean + exp(log var / 2) z, with mean and variance of p(x_s | x_t); no noise at s = 0.

    Ho et al. (2020), algorithm 2. `fraction` 0 takes the lower bound of the variance (beta tilde),
    1 the upper (beta), anything between interpolates their logarithms; a fraction that the network
    has learned wins. See `reverie.prediction.posterior`.

    Raises:
        ValueError: fraction outside [0, 1].
    """

    fraction: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"Ancestral needs a fraction in [0, 1]; given {self.fraction}")

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        b = f.schedule.at(s, like=x)
        mean, log_var = posterior(f(x, t, cond), b, self.fraction)
        if at_data(s):
            return mean, state
        return mean + (b.sigma > 0) * (0.5 * log_var).exp() * increment(noise, x, t, s), state
