"""The pixels themselves, for distances that need no network.

Letters in shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Opened
from reverie.evaluation.extractors.preparing import shrunk
from reverie.tensors import count


@dataclass(frozen=True)
class Pixels(Extractor, kind="pixels"):
    """Pixel values in [0, 1], one after another.

    Raises:
        ValueError: `side` is below 1.
    """

    image: ClassVar[bool | None] = True
    learned: ClassVar[bool] = False

    side: int = 64
    """Pictures with a longer side are shrunk to it, by means over areas; others are taken as they are."""

    def __post_init__(self) -> None:
        if self.side < 1:
            raise ValueError(f"pixels needs a side of at least 1; given {self.side}")

    def open(self, real: Collection, device: torch.device | str = "cpu") -> Opened:
        """Ready for pictures of one shape."""
        self.check(real)
        return _Pixels(self.side, real.shape)


class _Pixels(Opened):
    block: ClassVar[int] = 256

    def __init__(self, side: int, shape: tuple[int, ...]) -> None:
        kept = tuple(shrunk(torch.empty(1, *shape, device="meta"), side).shape[1:])
        size = "x".join(map(str, kept[1:]))
        resize = "none" if kept == shape else f"means over areas, to {size}"
        super().__init__(count(kept), about={"resize": resize, "quantization": "none", "scale": "x / 255"})
        self.side = side

    def both(self, items: Tensor) -> tuple[Tensor, None]:
        return shrunk(items.to(torch.float32), self.side).flatten(1) / 255, None
