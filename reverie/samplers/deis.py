"""DEIS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.samplers.interpolation import exponential, plain
from reverie.samplers.lms import in_rho
from reverie.samplers.multistep import Multistep, Weights
from reverie.schedules import Level


@dataclass(frozen=True)
class DEIS(
    Multistep,
    kind="deis",
    aliases={
        "deis_2": {"order": 2},
        "deis_3": {"order": 3},
        "deis_4": {"order": 4},
        "deis_rho": {"variable": "rho"},
    },
):
    r"""x_s / alpha_s = x / alpha_t + sum_j eps_j int_{rho_t}^{rho_s} L_j d rho, with rho = sigma / alpha.

    Zhang & Chen (2023), diffusion exponential integrator sampler: eps is replaced by the polynomial through its
    values at the last `order` times (the paper counts its degree, order - 1) and integrated exactly. It is one in

        log_rho    as diffusers has it; the more accurate one in few steps
        rho        the paper's rho-AB-DEIS; the same weights as `LMS`

    The paper's t-AB takes one in t. Its order depends on the schedule: where sigma ~ sqrt(t), as on `LinearVP`, eps is
    no smooth function of t near the data. The first steps, the step to s = 0 and those from pure noise are those of
    `LMS`.

    Raises:
        ValueError: an order other than 1, 2, 3 or 4, or another variable.
    """

    order: int = 3
    variable: Literal["log_rho", "rho"] = "log_rho"
    corrected: bool = True

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"DEIS has orders 1 to 4; given {self.order}")
        if self.variable not in ("rho", "log_rho"):
            raise ValueError(f"DEIS interpolates in 'rho' or 'log_rho'; given {self.variable!r}")

    @property
    def deterministic(self) -> bool:
        return True

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(level.alpha), torch.ones_like(level.alpha)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        if bool((s.sigma == 0).all()):
            return in_rho(nodes, s)
        return self._step(nodes, nodes.alpha[0], nodes.sigma[0], s)

    def corrector(self, nodes: Level) -> Weights | None:
        if not self.corrected or len(nodes.t) >= self.order:
            return None
        return self._step(nodes, nodes.alpha[1], nodes.sigma[1], Level(nodes.t[0], nodes.alpha[0], nodes.sigma[0]))

    def _step(self, nodes: Level, alpha: Tensor, sigma: Tensor, s: Level) -> Weights:
        """From the node with that alpha and sigma."""
        rho, start, end = nodes.sigma / nodes.alpha, sigma / alpha, s.sigma / s.alpha
        if self.variable == "rho":
            return Weights(s.alpha / alpha, s.alpha * plain(rho, start, end))
        # d rho = rho_t exp(u - u_t) du for u = log rho
        return Weights(s.alpha / alpha, -s.alpha * start * exponential(rho.log(), end.log(), start.log()))
