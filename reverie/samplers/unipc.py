"""UniPC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from reverie.samplers.interpolation import exponential, newest
from reverie.samplers.multistep import Multistep, Weights, extrapolated_data
from reverie.schedules import Level


@dataclass(frozen=True)
class UniPC(
    Multistep,
    kind="unipc",
    aliases={
        "unipc_1": {"p": 1},
        "unipc_2": {"p": 2},
        "unipc_3": {"p": 3},
        "uni_pc_bh1": {"variant": "bh1"},
        "uni_pc_bh2": {"variant": "bh2"},
    },
):
    r"""UniP-p predicts x_s from x0 at p times; UniC-p takes the step again when x0 at s is known, at no evaluation.

    Zhao et al. (2023), in data prediction. With h the step in l = log(alpha / sigma), r_m h the way
    from t to the m-th node and D_m = x0_m - x0_t,

        x_s = sigma_s / sigma_t x + alpha_s (1 - exp(-h)) x0_t - alpha_s B(h) sum_m a_m D_m / r_m

    a solves the paper's system R a B(h) = phi, which says that polynomials of degree up to the number of D_m are
    integrated exactly: B(h) cancels, and the weights are those of the exponential integral of the polynomial through
    the nodes. Only where one D_m is there, in UniP-2 and UniC-1, the paper takes a = 1/2, and B(h) remains: -h with
    `variant` "bh1", exp(-h) - 1 with "bh2" (then UniP-2 is DPM-Solver++ 2M).

    Its order is p + 1 if sigma / alpha falls to 0 fast enough, as N^-1.5 for p = 2. Where its last steps are equal, as
    on `LinearVP` with t = (1 - i / N)^2, they never shrink in l, and an error of N^-2 shows in many steps: the order is
    2.70 from N = 80 to 160, 2.51 to 320 and 2.34 to 640. The step to s = 0 extrapolates x0 through two values. From
    pure noise `Adams` of order p + 2 takes the steps that begin at sigma / alpha > 1 (see `Multistep`).

    Raises:
        ValueError: p other than 1, 2 or 3.
    """

    p: int = 2
    variant: Literal["bh1", "bh2"] = "bh2"

    def __post_init__(self) -> None:
        if self.p not in (1, 2, 3):
            raise ValueError(f"UniPC has p = 1, 2 and 3; given p={self.p}")
        if self.variant not in ("bh1", "bh2"):
            raise ValueError(f"UniPC has the variants 'bh1' and 'bh2'; given {self.variant!r}")
        object.__setattr__(self, "order", self.p + 1)

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def memory(self) -> int:
        return self.p

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level.alpha), torch.zeros_like(level.alpha)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        if bool((s.sigma == 0).all()):
            return extrapolated_data(newest(nodes, 2))
        known, ahead = nodes.log_snr / 2, s.log_snr / 2
        m = exponential(known, known[0], ahead)
        if len(known) == 2:
            m = self._half(ahead - known[0], known[1] - known[0])
        return Weights(s.sigma / nodes.sigma[0], s.alpha * m)

    def corrector(self, nodes: Level) -> Weights:
        known = nodes.log_snr / 2
        m = exponential(known, known[1], known[0])
        if len(known) == 2:
            h = known[0] - known[1]
            m = self._half(h, h).flip(0)
        return Weights(nodes.sigma[0] / nodes.sigma[1], nodes.alpha[0] * m)

    def _half(self, h: Tensor, way: Tensor) -> Tensor:
        """The weights of x0_t and of the x0 of the one other node, `way` from t, with a = 1/2."""
        whole = -torch.expm1(-h)
        size = h if self.variant == "bh1" else whole  # -B(h)
        other = size * h / way / 2
        return torch.stack([whole - other, other])
