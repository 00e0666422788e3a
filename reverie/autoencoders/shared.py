"""What autoencoders that are chains of layers have in common.

Letters in shapes: B batch, C channels, `...` one to three axes of space or time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from reverie.nets.base import spatial


def chained(layers: nn.Sequential, h: Tensor, checkpointing: bool) -> Tensor:
    """`layers`, one after the other; with `checkpointing`, each keeps its input alone for the backward pass.

    What lies inside is computed again there (Chen et al., 2016). No layer draws random numbers, so no state of a
    generator is kept.
    """
    for layer in layers:
        if checkpointing and torch.is_grad_enabled():
            h = checkpoint(layer, h, use_reentrant=False, preserve_rng_state=False)
        else:
            h = layer(h)
    return h


def wide(h: Tensor) -> Tensor:
    """`h` in float32 at least: autocast leaves bfloat16, too coarse for latents and what is summed over them."""
    return h.to(torch.promote_types(h.dtype, torch.float32))


def lowered(kind: str, shape: tuple[int, ...], factors: tuple[int, ...], fewer: str) -> tuple[int, ...]:
    """The sides of latents of an example of `shape` (C, ...), `factors` smaller, one factor for each axis of space.

    Args:
        kind: of the autoencoder, for messages.
        shape: (C, ...).
        factors: f of each axis.
        fewer: the setting that makes f smaller, in words, for messages.

    Raises:
        ValueError: f does not divide a side; the message says what would fit.
    """
    sides = shape[1:]
    if any(n % f for n, f in zip(sides, factors, strict=True)):
        fitting = tuple(n + -n % f for n, f in zip(sides, factors, strict=True))
        raise ValueError(
            f"autoencoder {kind!r} divides sides by f = {_said(factors)}, which do not divide those of examples of "
            f"{tuple(shape)}; bring them to {_said(fitting)} by data.size, or give {fewer}"
        )
    return tuple(n // f for n, f in zip(sides, factors, strict=True))


def _said(numbers: tuple[int, ...]) -> str:
    return " x ".join(map(str, numbers))


def require_space(kind: str, shape: tuple[int, ...]) -> None:
    """Refuse examples without axes of space, or with more than three.

    Raises:
        ValueError: they are such.
    """
    if not spatial(shape):
        raise ValueError(
            f"autoencoder {kind!r} takes examples of (C, ...) with one to three axes of space or time; given "
            f"{tuple(shape)}, for which there is 'linear'"
        )
