"""8-bit images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reverie.spaces.base import Space
from reverie.tensors import count


@dataclass(frozen=True)
class Pixels(Space, kind="pixels"):
    """8-bit values 0 ... 255 to [-1, 1]; decoding rounds and clips to uint8."""

    bounded: ClassVar[bool] = True
    quantum: ClassVar[float] = 1.0

    def scale(self, shape: Sequence[int]) -> float:
        """0.6 (pixels / 64)^(1/4), and 0.6 for smaller ones.

        0.6 lies between the standard deviation of photographs, 0.5, and of drawings on a plain ground, 0.7.
        Neighbouring pixels say the same, so the larger a picture, the more noise hides what it is of
        (Hoogeboom et al., 2023; Esser et al., 2024, who shift by the square of this).
        """
        return 0.6 * max(1.0, count(shape[1:]) / 64) ** 0.25

    def check(self, image: bool) -> None:
        if not image:
            raise ValueError("space.kind=pixels is for 8-bit images; these data are not: use space.kind=standardized")

    def encode(self, data: Tensor) -> Tensor:
        return data.to(torch.float32) / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def log_volume(self, shape: Sequence[int]) -> float:
        return -count(shape) * math.log(127.5)
