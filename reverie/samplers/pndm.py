"""PNDM, with pseudo Runge-Kutta steps to begin with, and PLMS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import State
from reverie.samplers.interpolation import plain
from reverie.samplers.lms import in_rho
from reverie.samplers.multistep import PURE, History, Multistep, Remembered, Weights, beyond
from reverie.schedules import Level, Schedule
from reverie.tensors import Noise, host, right

Move = Callable[[Tensor, Tensor], Tensor]
"""x moved along eps, from t to a level of its own."""


@dataclass(frozen=True)
class PLMS(Multistep, kind="plms"):
    r"""x_s = alpha_s / alpha_t x + (sigma_s - alpha_s sigma_t / alpha_t) eps', eps' = (55 eps_0 - 59 eps_1 + ...) / 24.

    Liu et al. (2022), PNDM: DDIM's step along the noise of an Adams method of order 4. The coefficients are those for
    equal steps in t; where steps differ, as on every 2.5th knot of a chain, those of the cubic in t through the same
    values. As the latent diffusion code (Rombach et al., 2022) begins it, the first step takes the mean of eps at both
    its ends, one evaluation more, and the second and third use methods of orders 2 and 3.

    The order is 2, as proved there: eps is averaged as if rho = sigma / alpha were linear in t. Where it is (and only
    there) one sees 4. The step to s = 0 is that of `LMS`, in rho as it is. From pure noise `Adams` of order 3 takes the
    steps that begin at rho > 1 (see `Multistep`), and four values are known after them.
    """

    order = 2
    _warm = 1
    """How many steps are not Adams'."""

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def memory(self) -> int:
        return 4

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(level.alpha), torch.ones_like(level.alpha)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        if bool((s.sigma == 0).all()):
            return in_rho(nodes, s)
        x = s.alpha / nodes.alpha[0]
        slope = s.sigma - x * nodes.sigma[0]
        return Weights(x, slope / (s.t - nodes.t[0]) * plain(nodes.t, nodes.t[0], s.t))

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        warm = self._warms(f.schedule, host(t), host(s), state)
        if not bool(warm.any()):
            return super().step(f, x, t, s, cond, noise, state)
        q = f(x, t, cond)
        end = torch.where(warm.to(s.device), s, t / 2)  # where another step is taken, any but 0
        x_s = _transfer(f, x, t, end)(x, self._mean(f, x, q.eps, t, end, cond))
        if bool(warm.all()):
            values = (Remembered(host(t), 1.0, q.eps, told=q), *state.values)
            return x_s, History(values, state.done + 1, state.plan, host(t) if state.began is None else state.began)
        rest, state = super().step(f, x, t, s, cond, noise, state)
        return torch.where(right(warm, x).to(torch.bool), x_s, rest), state

    def _warms(self, schedule: Schedule, t: Tensor, s: Tensor, state: State) -> Tensor:
        """Whether the step is one of those that begin a run, for times () or (B,)."""
        began = t if state.began is None else state.began
        return (s > 0) & ~beyond(PURE, schedule, began) & (len(state.values) < self._warm)

    def _mean(self, f: Denoises, x: Tensor, eps: Tensor, t: Tensor, s: Tensor, cond: Cond | None) -> Tensor:
        """eps, averaged over the step."""
        return (eps + f(_transfer(f, x, t, s)(x, eps), s, cond).eps) / 2


@dataclass(frozen=True)
class PNDM(PLMS, kind="pndm"):
    r"""`PLMS` with three pseudo Runge-Kutta steps to begin with, of four evaluations each.

    F-PNDM (Liu et al., 2022): with m halfway from t to s in time and every x moved by DDIM's step,

        eps' = (eps(x, t) + 2 eps(x_1, m) + 2 eps(x_2, m) + eps(x_3, s)) / 6

    x_1 moved from x to m along eps(x, t), x_2 to m along eps(x_1, m), x_3 to s along eps(x_2, m). N steps take N + 9
    evaluations; from pure noise N, as there `Adams` begins in their place.
    """

    _warm = 3

    def _mean(self, f: Denoises, x: Tensor, eps: Tensor, t: Tensor, s: Tensor, cond: Cond | None) -> Tensor:
        middle = (t + s) / 2
        to_middle, to_s = _transfer(f, x, t, middle), _transfer(f, x, t, s)
        second = f(to_middle(x, eps), middle, cond).eps
        third = f(to_middle(x, second), middle, cond).eps
        return (eps + 2 * second + 2 * third + f(to_s(x, third), s, cond).eps) / 6


def _transfer(f: Denoises, x: Tensor, t: Tensor, s: Tensor) -> Move:
    """DDIM's step from t to s along any eps (the transfer part of Liu et al., 2022)."""
    a, b = f.schedule.at(t, like=x), f.schedule.at(s, like=x)
    ratio = b.alpha / a.alpha
    slope = b.sigma - ratio * a.sigma
    return lambda x, eps: ratio * x + slope * eps
