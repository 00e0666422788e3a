"""The outlines of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.image_conditions.base import ImageCondition, Shown, image_shape
from reverie.image_conditions.grey import luminance


@dataclass(frozen=True)
class Edges(ImageCondition, kind="edges"):
    r"""|grad| of the luminance by Sobel's filters; one channel.

    sqrt(gx^2 + gy^2), of weights (1, 2, 1) / 4 along and (-1, 0, 1) / 2 across: the rise from one pixel to the
    next. Pixels beyond the border repeat those on it.
    """

    def channels(self, shape: Sequence[int]) -> int:
        image_shape("edges", shape)
        return 1

    def of(self, x0: Tensor, draw: torch.Generator) -> Shown:
        self.channels(x0.shape[1:])
        grey = F.pad(luminance(x0), (1, 1, 1, 1), mode="replicate")
        smooth = torch.tensor([1.0, 2.0, 1.0], dtype=x0.dtype, device=x0.device) / 4
        slope = torch.tensor([-1.0, 0.0, 1.0], dtype=x0.dtype, device=x0.device) / 2
        filters = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]
        return Shown(F.conv2d(grey, filters).square().sum(1, keepdim=True).sqrt())
