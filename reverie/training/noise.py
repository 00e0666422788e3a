"""The noise of a step, drawn once for all its rows.

Letters in shapes: G rows of a step on all processes, B those asked for, ... the shape of one example.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from reverie.tensors import Noise


class Draws:
    """Standard normal noise for G rows; the k-th draw, k = 0, 1, ..., is a stream of its own.

    A draw is made for all rows when it is first asked for, and kept: however the rows are divided,
    each gets the same numbers.

    Args:
        rows: G.
        stream: k to a generator at its beginning.
        first: draw 0, if it has been made already.
    """

    def __init__(self, rows: int, stream: Callable[[int], torch.Generator], first: Tensor | None = None) -> None:
        self._rows, self._stream = rows, stream
        self._made: dict[tuple[int, tuple[int, ...]], Tensor] = {}
        if first is not None:
            self._made[0, tuple(first.shape)] = first

    def noise(self, rows: slice) -> Noise:
        """Noise for some of the rows, counting its draws from 0.

        Raises:
            ValueError: when called, if it is asked for another number of rows.
        """
        number = itertools.count()
        return lambda like: self._draw(next(number), like, rows)

    def _draw(self, k: int, like: Tensor, rows: slice) -> Tensor:
        shape = (self._rows, *like.shape[1:])
        if (k, shape) not in self._made:
            generator = self._stream(k)
            self._made[k, shape] = torch.randn(shape, generator=generator, device=generator.device)
        drawn = self._made[k, shape][rows]
        if len(drawn) != len(like):
            raise ValueError(
                f"a loss draws noise for its own {len(drawn)} examples, as noise(like) with like of shape "
                f"({len(drawn)}, ...); given {tuple(like.shape)}"
            )
        return drawn.to(like)
