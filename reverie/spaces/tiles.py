"""Decoding what is too large to be decoded at once.

Letters in shapes: B batch, Z channels in, C channels out, `...` one to three axes of space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

BORDER = 0.25
"""Share of a tile that it has in common with the next one."""


def tiled(decode: Callable[[Tensor], Tensor], z: Tensor, tile: int) -> Tensor:
    """decode(z), in tiles of at most `tile` along every axis of space, which fade into one another linearly.

        out = sum_k w_k decode(z_k) / sum_k w_k

    The outer quarter of a border has no weight, for there a tile lacks what is beyond it. So it is exact where `decode`
    looks no further than that, and treats no place by the statistics of all.

    Args:
        decode: (B, Z, ...) to (B, C, ...), each axis enlarged by a whole number.
        z: (B, Z, ...).
        tile: in latent pixels.
    """
    sides = z.shape[2:]
    if max(sides, default=0) <= tile:
        return decode(z)
    total: Tensor | None = None
    weight: Tensor | None = None
    for place in itertools.product(*(_places(side, tile) for side in sides)):
        window = tuple(slice(first, min(first + tile, side)) for first, side in zip(place, sides, strict=True))
        part = decode(z[(slice(None), slice(None), *window)])
        factors = [n // (w.stop - w.start) for n, w in zip(part.shape[2:], window, strict=True)]
        if total is None:
            size = [side * f for side, f in zip(sides, factors, strict=True)]
            total, weight = part.new_zeros(*part.shape[:2], *size), part.new_zeros(1, 1, *size)
        assert weight is not None
        ramp = _ramp(part, window, sides, factors, tile)
        there = (
            slice(None),
            slice(None),
            *(slice(w.start * f, w.stop * f) for w, f in zip(window, factors, strict=True)),
        )
        total[there] += ramp * part
        weight[there] += ramp
    assert total is not None and weight is not None
    return total / weight


def _places(side: int, tile: int) -> list[int]:
    """Where tiles begin along an axis: evenly, each `BORDER` over the one before at least."""
    if side <= tile:
        return [0]
    step = max(1, int(tile * (1 - BORDER)))
    number = -(-(side - tile) // step)
    return [round(i * (side - tile) / number) for i in range(number + 1)]


def _ramp(part: Tensor, window: tuple[slice, ...], sides: tuple[int, ...], factors: list[int], tile: int) -> Tensor:
    """(1, 1, ...), 1 inside a tile, 0 at its borders, between them a line; borders of the whole have none."""
    ramp = part.new_ones(1, 1, *part.shape[2:])
    for axis, (w, side, factor) in enumerate(zip(window, sides, factors, strict=True)):
        n, border = part.shape[2 + axis], max(1, int(tile * BORDER * factor))
        place = torch.arange(n, dtype=part.dtype, device=part.device) + 0.5
        line = torch.ones_like(place)
        if w.start > 0:
            line = torch.minimum(line, _faded(place, border))
        if w.stop < side:
            line = torch.minimum(line, _faded(n - place, border))
        ramp = ramp * line.reshape(-1, *(1,) * (len(sides) - 1 - axis))
    return ramp


def _faded(place: Tensor, border: int) -> Tensor:
    """0 in the first quarter of the border, then rising, 1 in its last quarter and beyond."""
    return (2 * place / border - 0.5).clamp(0, 1)
