r"""Operators that act on each axis of an image by a matrix of its own.

H = A_1 x ... x A_k (Kronecker's product), so with A_i = U_i S_i V_i^T its singular vectors are products of those of
the axes, and its singular values all products of theirs: an SVD of matrices as small as the sides of the image.

Letters in shapes: B batch, n_i and m_i the lengths of axis i before and after, r_i the lesser of the two.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.editing.operators.base import Operator, Spectrum

FLOOR = 1e-4
"""Singular values below this share of the largest count as 0: a float32 image has no more to tell."""


def along(x: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """x (B, n_1, ..., n_k) with each axis multiplied by its matrix (m_i, n_i); None is the identity."""
    for axis, matrix in enumerate(matrices, 1):
        if matrix is not None:
            x = (x.movedim(axis, -1) @ matrix.to(x).T).movedim(-1, axis)
    return x


class Kronecker(Operator):
    """A matrix for each axis."""

    @abc.abstractmethod
    def matrices(self, shape: Sequence[int]) -> tuple[Tensor | None, ...]:
        """(m_i, n_i) float64 for each axis of examples of this shape, None for the identity.

        Raises:
            ValueError: a shape that it does not take.
        """

    def forward(self, x: Tensor) -> Tensor:
        return along(x, self.matrices(x.shape[1:]))

    def transpose(self, y: Tensor) -> Tensor:
        matrices = self.matrices(self.shape(y.shape[1:]))
        return along(y, [None if a is None else a.T for a in matrices])

    def spectrum(self, x: Tensor) -> Spectrum:
        return Products(x, self.matrices(x.shape[1:]))


class Products(Spectrum):
    """Of an SVD for each axis."""

    def __init__(self, like: Tensor, matrices: Sequence[Tensor | None]) -> None:
        self.shape = tuple(like.shape[1:])
        found = [None if a is None else _svd(tuple(a.shape), tuple(a.flatten().tolist())) for a in matrices]
        self._u, self._v = ([None if f is None else f[i].to(like) for f in found] for i in (0, 2))
        values = torch.ones((), dtype=torch.float64)
        for n, f in zip(self.shape, found, strict=True):
            own = torch.ones(n, dtype=torch.float64) if f is None else F.pad(f[1], (0, n - len(f[1])))
            values = values[..., None] * own
        self.values = (values * (values > FLOOR * values.max())).flatten().to(like)

    def of(self, x: Tensor) -> Tensor:
        return along(x, [None if v is None else v.T for v in self._v]).flatten(1)

    def back(self, z: Tensor) -> Tensor:
        return along(z.reshape(-1, *self.shape), self._v)

    def measured(self, y: Tensor) -> Tensor:
        found = along(y, [None if u is None else u.T for u in self._u])
        missing = [n - m for n, m in zip(self.shape, found.shape[1:], strict=True)]
        padded = F.pad(found, [side for more in reversed(missing) for side in (0, more)])
        return padded.flatten(1) * (self.values > 0)


@lru_cache(maxsize=64)
def _svd(shape: tuple[int, ...], entries: tuple[float, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """U (m, r), singular values (r,) and V (n, n) of a matrix (m, n)."""
    u, s, vt = torch.linalg.svd(torch.tensor(entries, dtype=torch.float64).reshape(shape), full_matrices=True)
    return u[:, : len(s)], s, vt.T


def composed(second: Tensor | None, first: Tensor | None) -> Tensor | None:
    """The matrix of one after the other on an axis."""
    if first is None or second is None:
        return second if first is None else first
    return second @ first


def image(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """(C, H, W).

    Raises:
        ValueError: examples of another number of axes.
    """
    if len(shape) != 3:
        raise ValueError(f"the operator {name!r} acts on images (C, H, W); given examples {tuple(shape)}")
    return tuple(shape)
