"""SA-Solver: stochastic Adams."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.samplers.dpmpp_sde import noised
from reverie.samplers.interpolation import exponential, newest
from reverie.samplers.multistep import Multistep, Weights, extrapolated_data
from reverie.schedules import Level


@dataclass(frozen=True)
class SASolver(Multistep, kind="sa_solver", aliases={"sa": {}}):
    r"""x_s = sigma_s / sigma_t exp(-tau^2 h) x + sum_j b_j x0_j + sigma_s sqrt(1 - exp(-2 tau^2 h)) z.

    Xue et al. (2023), algorithm 1, with a constant tau: l = log(alpha / sigma), h = l_s - l_t, and

        b_j = alpha_s int_{l_t}^{l_s} (1 + tau^2) exp(-(1 + tau^2) (l_s - l)) L_j(l) dl

    for the polynomial in l through x0 at the last `predictor_order` times; when x0 at s is known the step is taken
    again through the last `corrector_order` times, s among them, with the same noise, at no evaluation. No corrector
    where `corrector_order` is 0. tau = 0 is the flow ODE, tau = 1 the reverse SDE of Song et al. (2021).

    With tau = 0 its order is that of the corrector. With noise, the mean and the variance of what it makes of Gaussian
    data converge at order 2, if neither order is lower. The step to s = 0 is x0, extrapolated when tau = 0.

    Raises:
        ValueError: tau < 0, a predictor_order outside 1 ... 4, or a corrector_order that is 1 or outside 0 ...
            predictor_order + 1.
    """

    tau: float = 1.0
    predictor_order: int = 3
    corrector_order: int = 3

    def __post_init__(self) -> None:
        p, c = self.predictor_order, self.corrector_order
        if not self.tau >= 0:
            raise ValueError(f"SASolver needs tau of at least 0; given {self.tau}")
        if p not in (1, 2, 3, 4) or c not in (0, *range(2, p + 2)):
            raise ValueError(
                f"SASolver needs a predictor_order of 1 to 4 and a corrector_order of 2 to predictor_order + 1, or 0 "
                f"for none; given {p} and {c}"
            )
        object.__setattr__(self, "order", (c or p) if self.tau == 0 else min(2, c or p))

    @property
    def deterministic(self) -> bool:
        return self.tau == 0

    @property
    def memory(self) -> int:
        return self.predictor_order

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level.alpha), torch.zeros_like(level.alpha)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        if bool((s.sigma == 0).all()):
            return extrapolated_data(newest(nodes, 2 if self.tau == 0 else 1))
        known, ahead = nodes.log_snr / 2, s.log_snr / 2
        return self._adams(nodes, s, exponential(known, known[0], ahead, 1 + self.tau**2))

    def corrector(self, nodes: Level) -> Weights | None:
        if self.corrector_order == 0:
            return None
        before = Level(nodes.t[1:], nodes.alpha[1:], nodes.sigma[1:])
        s = Level(nodes.t[0], nodes.alpha[0], nodes.sigma[0])
        known = newest(nodes, self.corrector_order).log_snr / 2
        return self._adams(before, s, exponential(known, known[1], known[0], 1 + self.tau**2))

    def _adams(self, nodes: Level, s: Level, m: Tensor) -> Weights:
        x, z = noised(nodes, s, self.tau**2)
        return Weights(x, s.alpha * m, z)
