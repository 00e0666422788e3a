"""Fewer pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.editing.operators.kronecker import Kronecker, image


@dataclass(frozen=True)
class Downsample(Kronecker, kind="downsample"):
    """Means of squares of `factor` pixels: (C, H, W) to (C, H / factor, W / factor).

    H H^T = 1 / factor^2, so the pseudo-inverse repeats each pixel.

    Raises:
        ValueError: a factor below 1, or sides that it does not divide.
    """

    factor: int = 4

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise ValueError(f"downsample needs a factor of at least 1; given {self.factor}")

    def shape(self, measured: Sequence[int]) -> tuple[int, ...]:
        c, h, w = image("downsample", measured)
        return c, h * self.factor, w * self.factor

    def matrices(self, shape: Sequence[int]) -> tuple[Tensor | None, ...]:
        _, h, w = image("downsample", shape)
        if h % self.factor or w % self.factor:
            raise ValueError(f"downsample by {self.factor} needs sides that it divides; given {h}x{w}")
        mean = torch.full((1, self.factor), 1 / self.factor, dtype=torch.float64)
        return None, *(torch.kron(torch.eye(n // self.factor, dtype=torch.float64), mean) for n in (h, w))
