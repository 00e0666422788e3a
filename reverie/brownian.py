r"""Brownian paths that belong to the sample, so that more steps refine the sample they are taken for.

A stochastic solver that draws fresh noise at each step follows another path on another grid. Here the path
comes first: a Wiener process W on [0, 1] for each sample, a function of its seed alone, and a step from t
to s takes from it what lies between.

Letters in shapes: B batch, n numbers of an example, ... the shape of one example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reverie.tensors import Noise, Seed, Streams, count, host, sent

if TYPE_CHECKING:
    from numpy import ndarray

UNITS = 4000
"""How many equal units [0, 1] has: a grid of N even steps finds all its times among their ends for N = 2^a 5^b,
a <= 5, b <= 3."""

STRIDES = (2000, 400, 200, 40, 20, 4, 2, 1)
"""How coarse the ends of the tree's cells are, in units, level by level: halves, and fifths of halves, ..."""

FINENESS = 2**11
"""A cell within a unit is a leaf when its far end is so many widths from 0 and its near end as many from 1."""

NARROWEST = 2.0**-40
"""In units: narrower cells are leaves wherever they are."""

SNAP = 2.0**-40
"""Times as near as this, as a part of the time, to an end of a cell are taken for it: they carry rounding errors."""


class BrownianPath(Streams):
    r"""A Wiener process a sample on t in [0, 1], W(0) = 0, that may be asked at any times in any order.

    W(1) is drawn first, and each cell [a, b] of width w, beginning with [0, 1], is split at a + u w by
    Levy's rule

        W(a + u w) = (1 - u) W(a) + u W(b) + sqrt(u (1 - u) w) z,

    with z from a counter-based generator whose counter is the place: a virtual Brownian tree (Li et al.,
    2020, section 4). So nothing needs to be kept, and W(t) is the same numbers whatever was asked before, in
    whatever batch. The splits are at halves and fifths down to 1 / 4000 (`STRIDES`), so that the times of
    even grids are found among them, and in the middle from there on. In a leaf one draw, the leaf's own, gives
    W at any u by the same rule and stands for all levels below.

    Leaves narrow towards both ends of [0, 1] (`FINENESS`): they are at most 1 / 8000 wide, and t / 2048
    where t is small. Times with no two inside one leaf have the law of a Wiener process exactly. Inside a
    leaf the path is smooth, so a grid finer than that finds nothing new.

    It is a `Noise` too: called, it draws what `streams` of the same seeds would, and these draws, on
    which the start of a sample rests, are independent of the path.

    The times of a sweep, up or down, share most of the tree: the cells around the last time asked are kept.
    A time of an even grid of 2^a 5^b steps then costs one draw, as plain noise does; of another grid of N
    steps, about 16 - log2 N.
    """

    def __init__(self, seeds: Sequence[Seed]) -> None:
        super().__init__(seeds)
        self._keys = [g.bit_generator.state["state"]["key"] for g in self._generators]
        self._whole: _Tree | None = None
        self._single: list[_Tree] | None = None

    def increment(self, like: Tensor, t: Tensor | float, s: Tensor | float) -> Tensor:
        """(W(t) - W(s)) / sqrt|t - s|, standard normal, of the shape, dtype and device of `like` (B, ...).

        t and s are () or (B,); where they agree it is 0.

        Raises:
            ValueError: B is not the number of seeds, or times outside [0, 1].
        """
        self.check(like)
        t, s = host(t), host(s)
        width = (t - s).abs()
        if not bool((torch.maximum(t, s) <= 1).all() and (torch.minimum(t, s) >= 0).all()):
            raise ValueError(f"a Brownian path runs over times in [0, 1]; given t = {t.tolist()}, s = {s.tolist()}")
        n = count(like.shape[1:])
        if width.ndim == 0:
            if self._whole is None or self._whole.n != n:
                self._whole = _Tree(self._keys, n)
            found = self._whole.difference(t.item(), s.item())
        else:
            found = self._row_by_row(n, t.expand_as(width).tolist(), s.expand_as(width).tolist())
        found /= width.sqrt().where(width > 0, 1.0).reshape(-1, 1).numpy()
        return sent(torch.from_numpy(found).reshape(like.shape), like)

    def _row_by_row(self, n: int, t: list[float], s: list[float]) -> ndarray:
        import numpy as np

        if self._single is None or self._single[0].n != n:
            self._single = [_Tree([key], n) for key in self._keys]
        return np.concatenate([tree.difference(a, b) for tree, a, b in zip(self._single, t, s, strict=True)])


def paths(seeds: Sequence[Seed]) -> BrownianPath:
    """A Wiener process a sample: see `BrownianPath`.

    >>> like, both = torch.empty(1, 2, dtype=torch.float64), paths([7])
    >>> halves = both.increment(like, 1.0, 0.5) + both.increment(like, 0.5, 0.0)
    >>> bool(torch.allclose(halves * 0.5**0.5, paths([7]).increment(like, 1.0, 0.0)))
    True
    """
    return BrownianPath(seeds)


def increment(noise: Noise, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Standard normal noise of the shape of x (B, ...) for a step from t to s: the path's own, if `noise` has one."""
    return noise.increment(x, t, s) if isinstance(noise, BrownianPath) else noise(x)


@dataclass
class _Cell:
    """A cell of the tree: its ends in units, and W (B, n) there."""

    start: float
    end: float
    left: ndarray
    right: ndarray
    middle: ndarray | None = None
    """At the split, once it was asked for."""

    @property
    def split(self) -> float | None:
        """Where it is split, in units; None for a leaf."""
        width = self.end - self.start
        stride = next((e for e in STRIDES if e < width and width % e == 0), None)
        if stride is not None:
            return self.start + width // stride // 2 * stride
        far, near = self.end / width, (UNITS - self.start) / width
        leaf = min(far, near) >= FINENESS or width <= NARROWEST
        return None if leaf else self.start + width / 2


@dataclass
class _Tree:
    """W of a batch, with the cells around the last time that it was asked for."""

    keys: list[ndarray]
    n: int
    cells: list[_Cell] = field(default_factory=list)
    recent: dict[float, ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import numpy as np

        self._bits = np.random.Philox(0)
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state
        self._spare = np.empty((len(self.keys), self.n))

    def difference(self, t: float, s: float) -> ndarray:
        """W(t) - W(s), (B, n)."""
        w = self._at(t)
        return w - self._at(s)

    def _at(self, t: float) -> ndarray:
        """W(t), (B, n); the last two are kept, as one step ends where the next begins."""
        if t not in self.recent:
            if len(self.recent) > 1:
                del self.recent[next(iter(self.recent))]
            self.recent[t] = self._found(t * UNITS)
        return self.recent[t]

    def _found(self, v: float) -> ndarray:
        import numpy as np

        if not self.cells:
            self.cells.append(_Cell(0.0, UNITS, np.zeros_like(self._spare), self._normal(UNITS, _SPLIT)))
        while not self.cells[-1].start <= v <= self.cells[-1].end:
            self.cells.pop()
        while True:
            cell = self.cells[-1]
            if v - cell.start <= SNAP * v:
                return cell.left
            if cell.end - v <= SNAP * v:
                return cell.right
            split = cell.split
            if split is None:
                return self._between(cell, v, self._normal(cell.start, _LEAF))
            if cell.middle is None:
                cell.middle = self._between(cell, split, self._normal(split, _SPLIT))
            if v < split:
                self.cells.append(_Cell(cell.start, split, cell.left, cell.middle))
            else:
                self.cells.append(_Cell(split, cell.end, cell.middle, cell.right))

    def _between(self, cell: _Cell, v: float, z: ndarray) -> ndarray:
        """W at v in the cell, by Levy's rule, from z, which is overwritten."""
        import numpy as np

        width = cell.end - cell.start
        u = (v - cell.start) / width
        z *= math.sqrt(u * (1 - u) * width / UNITS)
        z += np.multiply(cell.left, 1 - u, out=self._spare)
        z += np.multiply(cell.right, u, out=self._spare)
        return z

    def _normal(self, place: float, use: int) -> ndarray:
        """The draws (B, n) that belong to a place, in units.

        Plain draws count up from (0, 0, 0, 0); here the third of the counter's words holds the place, bit by
        bit, and the fourth the use, which is not 0, so no number is drawn twice.
        """
        import numpy as np

        drawn = np.empty((len(self.keys), self.n))
        word = np.float64(place).view(np.uint64)
        self._state["state"]["counter"] = np.array([0, 0, word, use], dtype=np.uint64)
        for row, key in zip(drawn, self.keys, strict=True):
            self._state["state"]["key"] = key
            self._bits.state = self._state
            self._generator.standard_normal(out=row)
        return drawn


_SPLIT, _LEAF = 1, 2
