"""One operator after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from reverie.editing.operators.kronecker import Kronecker, composed


@dataclass(frozen=True)
class Chain(Kronecker):
    """All of `parts`, the first one first: a picture that is blurred, small and grey.

    Raises:
        ValueError: no parts, or one that does not act on each axis by itself.
    """

    parts: tuple[Kronecker, ...]

    def __post_init__(self) -> None:
        other = [type(part).__name__ for part in self.parts if not isinstance(part, Kronecker)]
        if other or not self.parts:
            raise ValueError(
                f"a chain is of operators that act on each axis by itself; given {', '.join(other) or 'none'}"
            )

    def shape(self, measured: Sequence[int]) -> tuple[int, ...]:
        for part in reversed(self.parts):
            measured = part.shape(measured)
        return tuple(measured)

    def matrices(self, shape: Sequence[int]) -> tuple[Tensor | None, ...]:
        total: tuple[Tensor | None, ...] = (None,) * len(shape)
        for part in self.parts:
            own = part.matrices(shape)
            total = tuple(composed(a, b) for a, b in zip(own, total, strict=True))
            shape = tuple(n if a is None else a.shape[0] for n, a in zip(shape, own, strict=True))
        return total
