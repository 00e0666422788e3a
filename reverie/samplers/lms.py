"""The linear multistep method in sigma / alpha."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.samplers.interpolation import newest, plain
from reverie.samplers.multistep import Multistep, Weights
from reverie.schedules import Level


@dataclass(frozen=True)
class LMS(Multistep, kind="lms", aliases={"k_lms": {"order": 4, "corrected": False}}):
    r"""x_s / alpha_s = x / alpha_t + int_{rho_t}^{rho_s} eps(rho) d rho, with rho = sigma / alpha.

    Adams-Bashforth with unequal steps: the polynomial in rho through eps at the last `order` times, integrated exactly
    (Hairer, Norsett & Wanner, 1993, III.5; in k-diffusion as LMS, by Crowson, there by adaptive quadrature to 1e-4).

    The first steps know fewer values, and with order 3 or 4 their errors of order 2 and 3 would be the largest of all.
    With `corrected` each of them is taken again when the next value is known, at no evaluation.

    The step to s = 0 uses two values. Near the data eps is an odd function of rho wherever the density is smooth, so
    the line through them errs by rho^4; and where the last step is much longer than those before it, as on a
    geometric grid of many steps, more values would amplify rounding by (rho / h)^order.

    From pure noise `Adams` of order + 1 takes the steps that begin at rho > 1 (see `Multistep`). Order 3 shows late
    where rho falls from large values by ratios: on `VE` with t = (1 - i / N)^2 it is 2.71 from N = 80 to 160, 2.85 to
    320 and 2.93 to 640.

    Raises:
        ValueError: an order other than 1, 2, 3 or 4.
    """

    order: int = 3
    corrected: bool = True

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"LMS has orders 1 to 4; given {self.order}")

    @property
    def deterministic(self) -> bool:
        return True

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(level.alpha), torch.ones_like(level.alpha)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        return in_rho(nodes, s)

    def corrector(self, nodes: Level) -> Weights | None:
        if not self.corrected or len(nodes.t) >= self.order:
            return None
        rho = nodes.sigma / nodes.alpha
        return Weights(nodes.alpha[0] / nodes.alpha[1], nodes.alpha[0] * plain(rho, rho[1], rho[0]))


def in_rho(nodes: Level, s: Level) -> Weights:
    """The step of `LMS`; with two of the nodes where s = 0."""
    if bool((s.sigma == 0).all()):
        nodes = newest(nodes, 2)
    rho = nodes.sigma / nodes.alpha
    return Weights(s.alpha / nodes.alpha[0], s.alpha * plain(rho, rho[0], s.sigma / s.alpha))
