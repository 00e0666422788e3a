"""DPM-Solver++ for the reverse SDE, multistep."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.samplers.dpmpp import halfway
from reverie.samplers.interpolation import newest
from reverie.samplers.multistep import Multistep, Weights, extrapolated_data
from reverie.schedules import Level


@dataclass(frozen=True)
class DPMSolverPPSDE(
    Multistep,
    kind="dpmpp_2m_sde",
    aliases={
        "dpmpp_3m_sde": {"nodes": 3},
        "k_dpmpp_2m_sde": {"nodes": 2},
        "k_dpmpp_3m_sde": {"nodes": 3},
        "dpm++_2m_sde": {"nodes": 2},
        "dpm++_3m_sde": {"nodes": 3},
    },
):
    r"""x_s = sigma_s / sigma_t exp(-eta h) x + alpha_s sum_j w_j x0_j + sigma_s sqrt(1 - exp(-2 eta h)) z.

    SDE-DPM-Solver++ (Lu et al., 2022) on `nodes` values of x0: eta = 1 is the reverse SDE of Song et al. (2021), eta =
    0 the flow ODE. h is the step in l = log(alpha / sigma), h' the one before. With a = (1 + eta) h and w = 1 -
    exp(-a), the sum is

        2 nodes (2M)   w (x0_0 + h / (2 h') (x0_0 - x0_1))
        3 nodes (3M)   w x0_0 + phi_2 d_1 - phi_3 d_2,    phi_2 = 1 - w / a,  phi_3 = phi_2 / a - 1/2

    with d_1 = h x0' and d_2 = h^2 x0'' / 2 of the parabola through the three values, and the line's d_1 alone where
    there are two. The 3M formula is known from k-diffusion's code (Crowson), where it stands so: the exact integral of
    the parabola has 2 phi_3, so with eta = 0 it is of order 2. The step to s = 0 is x0, extrapolated when eta = 0.

    The mean and the variance of what it makes of Gaussian data converge at order 2, with either number of nodes.

    Raises:
        ValueError: nodes other than 2 or 3, or eta < 0.
    """

    nodes: int = 2
    eta: float = 1.0
    order = 2

    def __post_init__(self) -> None:
        if self.nodes not in (2, 3):
            raise ValueError(f"DPMSolverPPSDE remembers 2 or 3 values; given nodes={self.nodes}")
        if not self.eta >= 0:
            raise ValueError(f"DPMSolverPPSDE needs eta of at least 0; given {self.eta}")

    @property
    def deterministic(self) -> bool:
        return self.eta == 0

    @property
    def memory(self) -> int:
        return self.nodes

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level.alpha), torch.zeros_like(level.alpha)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        if bool((s.sigma == 0).all()):
            return extrapolated_data(newest(nodes, 2 if self.eta == 0 else 1))
        known, ahead = nodes.log_snr / 2, s.log_snr / 2
        h = ahead - known[0]
        if len(known) == 1:
            m = -torch.expm1(-(1 + self.eta) * h).unsqueeze(0)
        elif self.nodes == 2:
            m = halfway(known, ahead, 1 + self.eta)
        else:
            m = _published(known, ahead, 1 + self.eta)
        x, z = noised(nodes, s, self.eta)
        return Weights(x, s.alpha * m, z)


def noised(nodes: Level, s: Level, eta: float) -> tuple[Tensor, Tensor | None]:
    """The weights of x and of the noise in the step of the reverse SDE from the first of `nodes` to s."""
    x = s.sigma / nodes.sigma[0]
    if eta == 0:
        return x, None
    h = (s.log_snr - nodes.log_snr[0]) / 2
    return x * torch.exp(-eta * h), s.sigma * (-torch.expm1(-2 * eta * h)).sqrt()


def _published(known: Tensor, ahead: Tensor, rate: float) -> Tensor:
    """The weights of 3M on values at `known` (2 or 3, ...)."""
    h, h1 = ahead - known[0], known[0] - known[1]
    a = rate * h
    whole = -torch.expm1(-a)
    phi_2 = 1 - whole / a
    if len(known) == 2:
        return torch.stack([whole + phi_2 * h / h1, -phi_2 * h / h1])
    phi_3 = phi_2 / a - 0.5
    h2 = known[1] - known[2]
    # d_2 / h^2 is the second divided difference; d_1 / h the first one, moved to the newest node by it.
    second = torch.stack([1 / (h1 * (h1 + h2)), -1 / (h1 * h2), 1 / (h2 * (h1 + h2))])
    zero = torch.zeros_like(h1)
    first = torch.stack([1 / h1, -1 / h1, zero]) + h1 * second
    return torch.stack([whole, zero, zero]) + phi_2 * h * first - phi_3 * h**2 * second
