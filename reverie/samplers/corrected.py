"""Predictor-corrector sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.prediction import Prediction
from reverie.samplers.base import Sampler, State, at_data
from reverie.samplers.langevin import langevin
from reverie.samplers.reverse_diffusion import ReverseDiffusion
from reverie.schedules import Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class Corrected(Sampler, kind="corrected", aliases={"predictor_corrector": {}, "pc": {}}):
    r"""A step of the `predictor` to s, then `steps` Langevin steps at s, whose size follows from r = `snr`.

    Song et al. (2021), algorithms 2 to 5: x + epsilon g + sqrt(2 epsilon) z with g the score and
    epsilon = 2 (r |z| / |g|)^2, so that r is the ratio of what the score moves to what the noise does.

    There the norms are means over the batch, which would make a sample depend on the batch it is
    drawn in. Unless `measured`, |g| = |z| / sigma stands here, the score's norm were there one example:
    epsilon = 2 r^2 sigma^2, and the law at s is kept up to an error of order r^2. With `measured` both
    norms are the example's own, epsilon at most sigma^2. In many dimensions that is the paper's step; in
    few it favours large scores: on Gaussian data of D numbers the variance settles at (1 + 2 / D)^2
    times what it should be, however small r. The factor alpha_i = 1 - beta_i of algorithm 5, 0.98 to 1
    on its chain, has no meaning off it and is left out.

    Any sampler can be the predictor. There is nothing to correct at s = 0.

    Raises:
        ValueError: unless steps >= 1 and 0 < snr < 1.
    """

    predictor: Sampler = field(default_factory=ReverseDiffusion)
    steps: int = 1
    snr: float = 0.16
    measured: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 < self.snr < 1:
            raise ValueError(f"Corrected needs steps >= 1 and 0 < snr < 1; given steps={self.steps}, snr={self.snr}")

    def check(self, schedule: Schedule, times: Tensor) -> None:
        self.predictor.check(schedule, times)

    def init(self) -> State:
        return self.predictor.init()

    def start(self, schedule: Schedule, times: Tensor) -> State:
        return self.predictor.start(schedule, times)

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        x, state = self.predictor.step(f, x, t, s, cond, noise, state)
        if at_data(s):
            return x, state
        noisy, where = f.schedule.at(s, like=x).sigma > 0, torch.where(s > 0, s, t)
        for _ in range(self.steps):
            q, z = f(x, where, cond), noise(x)
            corrected = langevin(q, self._size(q, z), z)
            x = corrected if s.ndim == 0 else torch.where(noisy, corrected, x)
        return x, state

    def _size(self, q: Prediction, z: Tensor) -> Tensor | float:
        """epsilon / sigma^2; |g| = |eps| / sigma."""
        if not self.measured:
            return 2 * self.snr**2
        return (2 * (self.snr * _norm(z) / _norm(q.eps)) ** 2).clamp(max=1)


def _norm(x: Tensor) -> Tensor:
    """The Euclidean norm of each example, (B, 1, ..., 1)."""
    return x.flatten(1).norm(dim=1).reshape((-1,) + (1,) * (x.ndim - 1))
