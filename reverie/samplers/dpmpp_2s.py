"""DPM-Solver++ 2S."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.samplers.angle import between, polar
from reverie.samplers.runge_kutta import chosen
from reverie.samplers.singlestep import Plan, Singlestep, Stage
from reverie.schedules import Schedule
from reverie.tensors import host

_FAR = 1.0
"""rho, above which lambda is no variable to expand in where it begins at minus infinity."""


@dataclass(frozen=True)
class DPMSolverPP2S(
    Singlestep,
    kind="dpmpp_2s",
    aliases={
        "k_dpmpp_2s": {},
        "dpmpp_2s_a": {"eta": 1.0},
        "dpmpp_2s_ancestral": {"eta": 1.0},
        "k_dpmpp_2s_a": {"eta": 1.0},
        "k_dpmpp_2s_ancestral": {"eta": 1.0},
    },
):
    r"""x_s = sigma_s / sigma_t x + alpha_s (1 - exp(-h)) x0_m, with h = lambda_s - lambda_t.

    Lu et al. (2022b), DPM-Solver++, algorithm 1 with r = 1/2: x0_m is found half way in lambda =
    log(alpha / sigma), where x_m = sigma_m / sigma_t x + alpha_m (1 - exp(-h / 2)) x0_t. Two evaluations a step.

    lambda is infinite at the data, and at pure noise. There the paper stops short or takes one evaluation, whose
    error remains however many steps are taken above it. Here the steps to t = 0 and from alpha = 0 are those of
    `reverie.samplers.runge_kutta.Midpoint`, of the same order and cost. So are, on schedules that end in noise, all
    steps from rho = sigma / alpha > 1: near alpha = 0 steps that are short in t are long in lambda, and their errors
    add up to N^-2 log N on an even grid.

    With `eta` > 0 each step goes further down, to rho_s sqrt(1 - tau) with tau = eta^2 (1 - rho_s^2 / rho_t^2),
    and noise of variance tau sigma_s^2 brings it back up. eta = 1 is k-diffusion's `sample_dpmpp_2s_ancestral`.

    Raises:
        ValueError: eta outside [0, 1].
    """

    eta: float = 0.0

    order = 2

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"DPMSolverPP2S needs eta in [0, 1]; given {self.eta}")

    @property
    def deterministic(self) -> bool:
        return self.eta == 0

    def stages(self, schedule: Schedule, t: Tensor, s: Tensor) -> Plan:
        (theta_t, r_t), (theta_s, r_s) = polar(schedule, t), polar(schedule, s)
        rho_t, rho_s = (torch.exp(-schedule.log_snr(a) / 2) for a in (t, s))
        tau = self.eta**2 * (1 - (rho_s / rho_t).clamp(max=1) ** 2)
        rho, added = rho_s * (1 - tau).sqrt(), r_s * theta_s.sin() * tau.sqrt()
        theta = rho.atan() if self.eta else theta_s
        inner = (rho > 0) & (t > 0) & (rho_t < (_FAR if schedule.ends_in_noise() else math.inf))
        theta_m = torch.where(inner, (rho_t * rho).sqrt().atan(), (theta_t + theta) / 2)
        t_m = between(schedule, theta_m, t, host(0.0))
        theta_m, r_m = polar(schedule, t_m)
        alpha_s, rho_m = r_s * theta_s.cos(), theta_m.tan()

        def exponential(low: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
            """The weights of x and of x0 on the way from t to the level `low`."""
            ratio = low / rho_t
            return alpha * ratio / (r_t * theta_t.cos()), alpha * (1 - ratio)

        nothing, all_of_it = torch.zeros_like(t), torch.ones_like(t)
        (x_m, k_m), (x_s, k_s) = exponential(rho_m, r_m * theta_m.cos()), exponential(rho, alpha_s)
        paper = (
            Stage(t, all_of_it, (), all_of_it, nothing),
            Stage(t_m, x_m, (k_m,), all_of_it, nothing),
            Stage(s, x_s, (nothing, k_s), nothing, nothing, added),
        )
        r = alpha_s / theta.cos()  # of x at theta, scaled as at s
        turn = (theta - theta_t) / 2
        midpoint = (
            Stage(t, all_of_it, (), -theta_t.sin(), theta_t.cos()),
            Stage(t_m, r_m / r_t * turn.cos(), (r_m * turn.sin(),), -theta_m.sin(), theta_m.cos()),
            Stage(s, r / r_t, (nothing, 2 * r * turn.sin()), nothing, nothing, added),
        )
        return tuple(chosen(inner, a, b) for a, b in zip(paper, midpoint, strict=True))
