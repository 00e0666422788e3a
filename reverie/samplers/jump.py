"""Steps of a model that has learned where they end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State
from reverie.tensors import Noise, number


@dataclass(frozen=True)
class Jump(Sampler, kind="jump", aliases={"mean_flow": {}, "shortcut": {}}):
    r"""x_s = alpha_s x0 + sigma_s eps, of what the denoiser says when it is told s.

    The step of DDIM, for a model that has learned the mean of the flow from t to s and not its value at t (Geng et
    al., 2025, eq. 12; Frans et al., 2024, eq. 4): exact for a step of any length, so that one is enough. Other models
    read no s, and for them this is `DDIM()`.
    """

    @property
    def deterministic(self) -> bool:
        return True

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        b = f.schedule.at(s, like=x)
        return f(x, t, leading(cond, s, x)).mix(number(b.alpha), number(b.sigma)), state


def leading(cond: Cond | None, s: Tensor, x: Tensor) -> Cond:
    """The conditions of x (B, ...), told that the step leads to s, () or (B,)."""
    return replace(cond or Cond(), until=s.to(x).expand(len(x)))
