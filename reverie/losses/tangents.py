"""How what a denoiser says changes along a path: derivatives in forward mode.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.prediction import Prediction
from reverie.tensors import host


def along(
    f: Denoises,
    read: Callable[[Prediction], Tensor],
    x: Tensor,
    t: Tensor,
    velocity: Tensor,
    speed: Tensor,
    cond: Cond | None = None,
) -> tuple[Tensor, Tensor]:
    """What `read` makes of f(x, t), and its derivative where x moves by `velocity` and t by `speed`; no gradient.

    One pass in forward mode (torch.func.jvp), which costs about as much as two evaluations and holds nothing for a
    backward pass. Fused attention has no such derivative, so that it is computed plainly here.

    Args:
        f: the denoiser.
        read: what of its prediction is looked at, (B, ...).
        x: (B, ...).
        t: (B,).
        velocity: (B, ...).
        speed: (B,).
        cond: what the denoiser is told.
    """

    def said(x: Tensor, t: Tensor) -> Tensor:
        return read(f(x, t, cond))

    t = host(t)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        made: Any = torch.func.jvp(said, (x, t), (velocity.to(x), host(speed).expand(t.shape)))
    value, change = made
    return value, change


def angular(alpha: Tensor, sigma: Tensor, rates: tuple[Tensor, Tensor]) -> Tensor:
    """d theta / d t, theta = atan(sigma / alpha), shaped as alpha."""
    return (alpha * rates[1] - sigma * rates[0]) / (alpha**2 + sigma**2)
