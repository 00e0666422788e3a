"""Examples cut into patches, one token each, and put together again, over one to three axes.

Letters in shapes: B batch, C channels, `...` the axes of one example, p the side of a patch along an axis,
n patches along an axis, L tokens (the product of all n).
"""

from __future__ import annotations

import math

from torch import Tensor


def split(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """(B, C, n p, ...) -> (B, L, C p ...): the patches with the last axis fastest, channels first inside each.

    Each side of `x` is a multiple of the patch's.
    """
    rank = len(patch)
    sides = [side for n, p in zip(x.shape[2:], patch, strict=True) for side in (n // p, p)]
    x = x.reshape(*x.shape[:2], *sides)
    counts, insides = range(2, 2 * rank + 2, 2), range(3, 2 * rank + 3, 2)
    return x.permute(0, *counts, 1, *insides).flatten(1 + rank).flatten(1, rank)


def join(h: Tensor, patch: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """(B, L, C p ...) -> (B, C, n p, ...), the inverse of `split`; `grid` is the n of each axis."""
    rank = len(patch)
    channels = h.shape[-1] // math.prod(patch)
    h = h.reshape(len(h), *grid, channels, *patch)
    pairs = [axis for i in range(rank) for axis in (1 + i, 2 + rank + i)]
    sides = [n * p for n, p in zip(grid, patch, strict=True)]
    return h.permute(0, 1 + rank, *pairs).reshape(len(h), channels, *sides)
