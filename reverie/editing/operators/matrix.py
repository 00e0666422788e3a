"""Any linear map, for small examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from reverie.editing.operators.base import Operator, Spectrum
from reverie.editing.operators.kronecker import Products
from reverie.tensors import count


@dataclass(frozen=True, eq=False)
class Matrix(Operator):
    """A x for a dense matrix: (...) of n numbers to (m,).

    Args:
        entries: A, (m, n).
        example: the shape of one example; (n,) unless given.

    Raises:
        ValueError: something else than a matrix, or a shape of another number of numbers.
    """

    entries: Tensor
    example: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.entries.ndim != 2 or (self.example and count(self.example) != self.entries.shape[1]):
            raise ValueError(f"a matrix (m, n) acts on n numbers; given {tuple(self.entries.shape)} for {self.example}")

    def shape(self, measured: Sequence[int]) -> tuple[int, ...]:
        if tuple(measured) != (len(self.entries),):
            raise ValueError(f"measurements have the shape ({len(self.entries)},) here; given {tuple(measured)}")
        return self.example or (self.entries.shape[1],)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.entries.to(x).T

    def transpose(self, y: Tensor) -> Tensor:
        return (y @ self.entries.to(y)).reshape(-1, *self.shape(y.shape[1:]))

    def spectrum(self, x: Tensor) -> Spectrum:
        return _Flat(x, self.entries)


class _Flat(Spectrum):
    """Of the examples as vectors."""

    def __init__(self, like: Tensor, entries: Tensor) -> None:
        self.shape, self._inner = tuple(like.shape[1:]), Products(like.flatten(1), (entries.double().cpu(),))
        self.values = self._inner.values

    def of(self, x: Tensor) -> Tensor:
        return self._inner.of(x.flatten(1))

    def back(self, z: Tensor) -> Tensor:
        return self._inner.back(z).reshape(-1, *self.shape)

    def measured(self, y: Tensor) -> Tensor:
        return self._inner.measured(y)
