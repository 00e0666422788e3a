"""Out of focus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.editing.operators.kronecker import Kronecker, image

REACH = 4.0
"""Standard deviations beyond which a Gaussian counts as 0."""


@dataclass(frozen=True)
class Blur(Kronecker, kind="blur"):
    """Convolution with a Gaussian of standard deviation `sigma` pixels, along both sides.

    Beyond the border the image is its own mirror image, border pixels repeated, so a plain image stays what it is.
    The Gaussian is cut off at 4 sigma and its weights sum to 1.

    Raises:
        ValueError: sigma of 0 or less, or so large that the mirror image ends.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise ValueError(f"blur needs a sigma above 0; given {self.sigma}")

    def shape(self, measured: Sequence[int]) -> tuple[int, ...]:
        return image("blur", measured)

    def matrices(self, shape: Sequence[int]) -> tuple[Tensor | None, ...]:
        _, h, w = image("blur", shape)
        return None, self._matrix(h), self._matrix(w)

    def _matrix(self, n: int) -> Tensor:
        reach = math.ceil(REACH * self.sigma)
        if reach > n:
            raise ValueError(
                f"blur of sigma {self.sigma:g} reaches {reach} pixels, beyond a side of {n}; take a smaller"
            )
        offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
        weights = torch.exp(-0.5 * (offsets / self.sigma) ** 2)
        seen = torch.arange(n)[:, None] + offsets.long()
        place = torch.where(seen < 0, -1 - seen, torch.where(seen >= n, 2 * n - 1 - seen, seen))
        matrix = torch.zeros(n, n, dtype=torch.float64)
        return matrix.scatter_add(1, place, (weights / weights.sum()).expand(n, -1))
