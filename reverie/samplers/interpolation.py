"""Integrals of polynomials through remembered values: what each value weighs, in float64.

Letters in shapes: k nodes, q points of a quadrature, ... windows.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from reverie.schedules import Level

_FAR = 45.0
"""exp(-45) = 3e-20 is nothing next to 1 in float64."""


@cache
def _gauss(count: int) -> tuple[Tensor, Tensor]:
    """Points and weights (q,) of the Gauss-Legendre rule on [0, 1], exact for polynomials of degree 2 q - 1."""
    import numpy as np

    points, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy(points + 1) / 2, torch.from_numpy(weights) / 2


def lagrange(nodes: Tensor, u: Tensor) -> Tensor:
    """L_j(u) = prod_{i != j} (u - u_i) / (u_j - u_i): nodes (k, ...) and u (q, ...) give (k, q, ...)."""
    k, far = len(nodes), u - nodes.unsqueeze(1)
    rows = []
    for j in range(k):
        others = [i for i in range(k) if i != j]
        rows.append(far[others].prod(0) / (nodes[j] - nodes[others]).prod(0))
    return torch.stack(rows)


def _integral(nodes: Tensor, low: Tensor, high: Tensor, count: int, rate: float) -> Tensor:
    points, weights = (c.reshape((-1,) + (1,) * high.ndim) for c in _gauss(count))
    u = low + points * (high - low)
    weights = weights * (high - low)
    if rate:
        weights = weights * rate * torch.exp(-rate * (high - u))
    return (lagrange(nodes, u) * weights).sum(1)


def plain(nodes: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """c_j = int_start^end L_j(u) du, (k, ...): Adams' weights on any nodes (k, ...)."""
    return _integral(nodes, start, end, (len(nodes) + 1) // 2, 0.0)


def exponential(nodes: Tensor, start: Tensor, end: Tensor, rate: float = 1.0) -> Tensor:
    r"""c_j = int_start^end rate exp(-rate (end - u)) L_j(u) du, (k, ...), for start < end.

    The weights of an exponential integrator, which sum to 1 - exp(-rate (end - start)). Formulas in closed form
    (phi functions) cancel where the step is small; Gauss' rule does not, and with 32 points it is exact to
    rounding, once the part of the range that weighs nothing is left out.
    """
    return _integral(nodes, torch.maximum(start, end - _FAR / rate), end, 32, rate)


def newest(nodes: Level, count: int) -> Level:
    """The first `count` of nodes (k, ...)."""
    return Level(nodes.t[:count], nodes.alpha[:count], nodes.sigma[:count])
