"""DPM-Solver++, multistep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.samplers.interpolation import exponential, newest
from reverie.samplers.multistep import Multistep, Weights, extrapolated_data
from reverie.schedules import Level


@dataclass(frozen=True)
class DPMSolverPP(
    Multistep,
    kind="dpmpp",
    aliases={
        "dpmpp_2m": {"order": 2},
        "dpmpp_3m": {"order": 3},
        "k_dpmpp_2m": {"order": 2},
        "dpmsolver++": {},
        "dpm++": {},
        "dpm++_2m": {"order": 2},
        "dpm++_3m": {"order": 3},
    },
):
    r"""x_s = sigma_s / sigma_t x + alpha_s int_{l_t}^{l_s} exp(l - l_s) x0(l) dl, with l = log(alpha / sigma).

    Lu et al. (2022), DPM-Solver++, with the polynomial in l through x0 at the last `order` times for x0(l). On two
    values the line through them is integrated exactly, or with `midpoint` as in the published algorithm 2 (2M), which
    takes its value in the middle of the step, h = l_s - l_t and h' the step before:

        x_s = sigma_s / sigma_t x + alpha_s (1 - exp(-h)) (x0_t + h / (2 h') (x0_t - x0_before))

    Three values are weighed exactly. (The formula that goes by 3M elsewhere halves the second derivative's term, so
    it is of order 2: see `DPMSolverPPSDE`.) There the first step, which knows one value, is taken again with two when
    the second is known, at no evaluation. The step to s = 0 extrapolates x0 through two values: near the data x0 is an
    even function of rho = sigma / alpha wherever the density is smooth, so they err by rho^4. From pure noise `Adams`
    of order + 1 takes the steps that begin at rho > 1 (see `Multistep`).

    Raises:
        ValueError: an order other than 1, 2 or 3.
    """

    order: int = 2
    midpoint: bool = True

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3):
            raise ValueError(f"DPMSolverPP has orders 1, 2 and 3; given {self.order}")

    @property
    def deterministic(self) -> bool:
        return True

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level.alpha), torch.zeros_like(level.alpha)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        if bool((s.sigma == 0).all()):
            return extrapolated_data(newest(nodes, 2))
        known, ahead = nodes.log_snr / 2, s.log_snr / 2
        middle = self.midpoint and self.order == len(known) == 2
        m = halfway(known, ahead) if middle else exponential(known, known[0], ahead)
        return Weights(s.sigma / nodes.sigma[0], s.alpha * m)

    def corrector(self, nodes: Level) -> Weights | None:
        if self.order < 3 or len(nodes.t) > 2:
            return None
        known = nodes.log_snr / 2
        return Weights(nodes.sigma[0] / nodes.sigma[1], nodes.alpha[0] * exponential(known, known[1], known[0]))


def halfway(known: Tensor, ahead: Tensor, rate: float = 1.0) -> Tensor:
    """Weights (2, ...) of values at `known` (2, ...) for a step to `ahead` (...): their line's value in its middle."""
    h, before = ahead - known[0], known[0] - known[1]
    whole, share = -torch.expm1(-rate * h), h / (2 * before)
    return torch.stack([whole * (1 + share), -whole * share])
