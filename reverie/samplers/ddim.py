"""DDIM."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.brownian import increment
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State, at_data
from reverie.tensors import Noise, number


@dataclass(frozen=True)
class DDIM(
    Sampler,
    kind="ddim",
    aliases={
        "euler": {},
        "k_euler": {},
        "euler_a": {"eta": 1.0},
        "euler_ancestral": {"eta": 1.0},
        "k_euler_a": {"eta": 1.0},
        "k_euler_ancestral": {"eta": 1.0},
    },
):
    r"""x_s = alpha_s x0 + sigma_s (sqrt(1 - tau) eps + sqrt(tau) z).

    Song et al. (2021), eq. 12, for any schedule: tau = eta^2 (1 - (alpha_t sigma_s / (alpha_s
    sigma_t))^2). eta = 0 is the Euler step of the flow ODE in sigma / alpha (Karras et al., 2022; on
    `Flow`, that of the velocity); eta = 1 has the mean and variance of `Ancestral(0)`, and is Euler
    with ancestral noise.

    Raises:
        ValueError: eta outside [0, 1].
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DDIM needs eta in [0, 1]; given {self.eta}")

    @property
    def deterministic(self) -> bool:
        return self.eta == 0

    @property
    def invertible(self) -> bool:
        return self.eta == 0

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        q, b = f(x, t, cond), f.schedule.at(s, like=x)
        if self.eta == 0 or at_data(s):
            return q.mix(number(b.alpha), number(b.sigma)), state
        a = q.level
        tau = self.eta**2 * (1 - (a.alpha * b.sigma / (b.alpha * a.sigma)) ** 2)
        kept, added = (number(b.sigma * share.sqrt()) for share in (1 - tau, tau))
        return q.mix(number(b.alpha), kept) + added * increment(noise, x, t, s), state
