"""A picture with fewer pixels, for super-resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.image_conditions.base import ImageCondition, image_shape


@dataclass(frozen=True)
class LowResolution(ImageCondition, kind="low_resolution"):
    """Means of squares of `factor` pixels, brought back to full size by bilinear interpolation; C channels.

    What SR3 is told (Saharia et al., 2021, section 2.3), with means in place of their bicubic filter.

    Raises:
        ValueError: a factor below 2, or sides that it does not divide.
    """

    factor: int = 4

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"low_resolution needs a factor of at least 2; given {self.factor}")

    def channels(self, shape: Sequence[int]) -> int:
        c, h, w = image_shape("low_resolution", shape)
        if h % self.factor or w % self.factor:
            raise ValueError(f"low_resolution of factor {self.factor} needs sides that it divides; given {h}x{w}")
        return c

    def of(self, x0: Tensor, draw: torch.Generator) -> Tensor:
        self.channels(x0.shape[1:])
        return self.enlarged(F.avg_pool2d(x0, self.factor))

    def enlarged(self, small: Tensor) -> Tensor:
        """What is told of a picture (B, C, H / factor, W / factor) that is small to begin with."""
        return F.interpolate(small, scale_factor=self.factor, mode="bilinear", align_corners=False)
