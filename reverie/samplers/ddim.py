"""DDIM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State, at_data
from reverie.tensors import Noise


@dataclass(frozen=True)
class DDIM(Sampler, kind="ddim"):
    r"""x_s = alpha_s x0 + sigma_s (sqrt(1 - tau) eps + sqrt(tau) z).

    Song et al. (2021), eq. 12, for any schedule: tau = eta^2 (1 - (alpha_t sigma_s / (alpha_s
    sigma_t))^2). eta = 0 is the Euler step of the flow ODE (on `Flow`, that of the velocity); eta =
    1 has the mean and variance of `Ancestral(0)`.

    Raises:
        ValueError: eta outside [0, 1].
    """

    eta: float = 0.0
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM needs eta in [0, 1]; given {self.eta}")

    @property
    def deterministic(self) -> bool:
        return self.eta == 0

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        q, b = f(x, t, cond), f.schedule.at(s, like=x)
        if self.eta == 0 or at_data(s):
            return b.alpha * q.x0 + b.sigma * q.eps, state
        a = q.level
        tau = self.eta**2 * (1 - (a.alpha * b.sigma / (b.alpha * a.sigma)) ** 2)
        return b.alpha * q.x0 + b.sigma * ((1 - tau).sqrt() * q.eps + tau.sqrt() * noise(x)), state
