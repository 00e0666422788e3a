"""Some of the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from reverie.editing.operators.base import Operator, Spectrum


@dataclass(frozen=True, eq=False)
class Mask(Operator):
    """x where the mask is 1, and 0 where it is 0: (...) to (...).

    Args:
        known: (...), 1 where x is known; axes of length 1 stand for any, so (1, H, W) is for all channels.

    Raises:
        ValueError: a mask of other values than 0 and 1, or examples that it does not fit.
    """

    known: Tensor

    def __post_init__(self) -> None:
        if not bool(((self.known == 0) | (self.known == 1)).all()):
            raise ValueError("a mask is 1 where the picture is known and 0 where it is not; given other values")

    def shape(self, measured: Sequence[int]) -> tuple[int, ...]:
        fits = len(measured) == self.known.ndim
        if not fits or any(m not in (1, n) for m, n in zip(self.known.shape, measured, strict=True)):
            raise ValueError(f"a mask of shape {tuple(self.known.shape)} does not fit examples {tuple(measured)}")
        return tuple(measured)

    def forward(self, x: Tensor) -> Tensor:
        return x * self._known(x)

    def transpose(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def pinv(self, y: Tensor) -> Tensor:
        return self.forward(y)

    def spectrum(self, x: Tensor) -> Spectrum:
        return _Pixels(self._known(x))

    def _known(self, x: Tensor) -> Tensor:
        return self.known.to(x).expand(self.shape(x.shape[1:]))


class _Pixels(Spectrum):
    """U = V = 1."""

    def __init__(self, known: Tensor) -> None:
        self.shape, self.values = tuple(known.shape), known.flatten()

    def of(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def back(self, z: Tensor) -> Tensor:
        return z.reshape(-1, *self.shape)

    def measured(self, y: Tensor) -> Tensor:
        return y.flatten(1) * self.values
