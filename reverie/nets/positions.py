"""Where the cells of a grid are, told to a transformer: sines and cosines to add, or rotations of queries and keys.

Both are functions of the grid alone, so that a network takes sizes that it was not built for.

Letters in shapes: B batch, L cells (the last axis of the grid fastest), E width, D width of a head, `...` any axes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.nets.embeddings import sinusoidal


def sinusoidal_positions(
    grid: tuple[int, ...],
    width: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Fixed positions of the cells of a grid of any rank, (L, E), to be added to the cells.

    Each axis has an equal share of the width for its sines and cosines, the last axis first; what cannot be
    divided into pairs is 0 (Peebles & Xie, 2023, for two axes).

    Args:
        grid: cells along each axis.
        width: E.
        device: where.
        dtype: computed in float64 if it is that, else in float32, and rounded once.

    Raises:
        ValueError: `width` is less than two for each axis.
    """
    share = width // len(grid) // 2 * 2
    if share < 2:
        raise ValueError(
            f"{len(grid)} axes of sines and cosines need a width of at least {2 * len(grid)}, given {width}"
        )
    tables = [sinusoidal(_counted(n, device, dtype), share) for n in grid]
    spread = [_over(table, axis, grid) for axis, table in enumerate(tables)]
    return F.pad(torch.cat(spread[::-1], dim=-1), (0, width - share * len(grid))).to(dtype)


def rotary(
    grid: tuple[int, ...],
    width: int,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The rotations of rotary positions, (2, L, D): cosines, then signed sines, for `rotated`.

        angle of channel i and i + D/2 at place n of an axis = n * period^(-j / m),  j = 0..m - 1

    The D/2 pairs of channels are divided equally among the axes, m each; those left over stay unturned. With
    q and k turned, q k^T depends on the difference of their places only, along each axis (Su et al., 2021; over
    several axes Heo et al., 2024). The period is 10,000 along one axis as in the first, 100 along several as in
    the second.

    Args:
        grid: cells along each axis.
        width: D, the width of a head.
        device: where.
        dtype: as in `sinusoidal_positions`.

    Raises:
        ValueError: `width` is odd or less than two for each axis.
    """
    share = width // 2 // len(grid)
    if width % 2 or share < 1:
        raise ValueError(
            f"rotary positions over {len(grid)} axes need heads of an even width of at least {2 * len(grid)}, "
            f"given {width}"
        )
    period = 10_000.0 if len(grid) == 1 else 100.0
    angles = []
    for axis, n in enumerate(grid):
        place = _counted(n, device, dtype)
        slower = torch.arange(share, device=device, dtype=place.dtype) * (-math.log(period) / share)
        angles.append(_over(place[:, None] * slower.exp(), axis, grid))
    angle = F.pad(torch.cat(angles, dim=-1), (0, width // 2 - share * len(grid)))
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)]).to(dtype)


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Queries or keys (B, L, heads, D), each pair of channels (i, i + D/2) turned by its angle.

        out_i = x_i cos - x_{i + D/2} sin,  out_{i + D/2} = x_{i + D/2} cos + x_i sin

    `turn` is that of `rotary`, (2, L, D). The cosines are rounded to the dtype of `x`, as precise as its own.
    """
    cos, sin = turn.to(x.dtype)[:, :, None].unbind()
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def _counted(n: int, device: torch.device | None, dtype: torch.dtype) -> Tensor:
    """0..n - 1, in float64 if that is the dtype, else in float32."""
    return torch.arange(n, device=device, dtype=torch.float64 if dtype == torch.float64 else torch.float32)


def _over(table: Tensor, axis: int, grid: tuple[int, ...]) -> Tensor:
    """A table of one axis, (n, E), repeated along the others: (L, E)."""
    at = [table.shape[0] if i == axis else 1 for i in range(len(grid))]
    return table.reshape(*at, -1).expand(*grid, -1).flatten(0, len(grid) - 1)
