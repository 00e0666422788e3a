"""The numbers of arrays themselves, for distances that need no network.

Letters in shapes: N examples, B batch, F numbers of one example, ... one example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from reverie.digests import digest
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Opened
from reverie.evaluation.team import one_thread

ROWS = 4096
"""How many examples are held in float64 at a time."""


@dataclass(frozen=True)
class Values(Extractor, kind="values"):
    """(x - mean) / std of every number of an example, so that a wide column does not drown the others.

    Mean and standard deviation are those of the real examples. A column that is constant there has no scale:
    it is only shifted.
    """

    image: ClassVar[bool | None] = False
    learned: ClassVar[bool] = False

    def open(self, real: Collection, device: torch.device | str = "cpu") -> Opened:
        """Measure the scale of each number."""
        self.check(real)
        return _Values(*moments(real))


class _Values(Opened):
    block: ClassVar[int] = 1024

    def __init__(self, mean: np.ndarray, std: np.ndarray) -> None:
        scale = {"mean": torch.from_numpy(mean), "std": torch.from_numpy(std)}
        told = "less the mean, over the standard deviation, of each number in the reference"
        super().__init__(len(mean), digest(scale)[:16], {"resize": "none", "quantization": "none", "scale": told})
        self.mean, self.std = scale["mean"], scale["std"]

    def both(self, items: Tensor) -> tuple[Tensor, None]:
        return (items.flatten(1).cpu().double() - self.mean) / self.std, None


def moments(real: Collection) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (F,) of each number, float64; of one that never varies the deviation is 1.

    Raises:
        ValueError: a number is not finite.
    """
    items = real.items.reshape(len(real), -1)
    blocks = [slice(start, start + ROWS) for start in range(0, len(items), ROWS)]
    with one_thread(), np.errstate(invalid="ignore"):
        mean = sum(items[rows].sum(0, dtype=np.float64) for rows in blocks) / len(items)
        if not np.isfinite(mean).all():
            raise ValueError(f"{real.source} holds numbers that are not finite; leave those examples out")
        square = sum(((items[rows] - mean) ** 2).sum(0) for rows in blocks) / len(items)
        varies = np.any([(items[rows] != items[0]).any(0) for rows in blocks], axis=0)
    return np.where(varies, mean, items[0]), np.where(varies, np.sqrt(square), 1.0)
