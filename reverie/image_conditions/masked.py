"""A picture of which a part is unknown, for inpainting and outpainting.

Letters in shapes: B batch, C channels, H height, W width, K ends of a stroke.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reverie.image_conditions.base import ImageCondition, Shown, image_shape
from reverie.tensors import sent

ENDS = 6
"""K, of a stroke of the brush."""
DRAWS = 8 + 2 * ENDS
"""Numbers that a mask takes."""


@dataclass(frozen=True)
class Masked(ImageCondition, kind="masked"):
    """x0 with 0 where it is unknown, and the mask, 1 where it is known; C + 1 channels.

    What is unknown in training is drawn anew for each example: with the shares below a rectangle, a stroke of a
    brush or a half of the image (kinds as in Lugmayr et al., 2022, section 5.1), and for the rest all of it, which
    is sampling without an image.

    Raises:
        ValueError: shares that are negative or sum to more than 1.
    """

    pixels: ClassVar[bool] = False

    rectangles: float = 0.4
    strokes: float = 0.3
    halves: float = 0.2

    def __post_init__(self) -> None:
        shares = (self.rectangles, self.strokes, self.halves)
        if min(shares) < 0 or sum(shares) > 1 + 1e-9:
            raise ValueError(f"shares of masks are at least 0 and sum to at most 1; given {shares}")

    def channels(self, shape: Sequence[int]) -> int:
        return image_shape("masked", shape)[0] + 1

    def of(self, x0: Tensor, draw: torch.Generator) -> Shown:
        b, _, h, w = x0.shape
        return self.given(x0, self.masks(b, h, w, draw))

    def given(self, picture: Tensor, mask: Tensor | None = None) -> Shown:
        self.channels(picture.shape[1:])
        if mask is None:
            raise ValueError(
                "the image condition 'masked' needs a mask (B or 1, 1, H, W), 1 where the picture is known"
            )
        known = sent(mask.to(torch.float64), picture).expand(len(picture), 1, *picture.shape[2:])
        return Shown(torch.cat([torch.where(known > 0, picture, 0.0), known], dim=1))

    def masks(self, batch: int, height: int, width: int, draw: torch.Generator) -> Tensor:
        """(B, 1, H, W) float32, 1 where the picture is known."""
        u = torch.rand(batch, DRAWS, generator=draw)
        kinds = torch.tensor([self.rectangles, self.strokes, self.halves]).cumsum(0)
        kind = torch.bucketize(u[:, 0].contiguous(), kinds, right=True)[:, None, None]
        y = (torch.arange(height) + 0.5)[:, None] / height
        x = (torch.arange(width) + 0.5) / width
        unknown = torch.ones(batch, height, width, dtype=torch.bool)
        for i, made in enumerate((_rectangle(u, y, x), _stroke(u, y, x), _half(u, y, x))):
            unknown = torch.where(kind == i, made, unknown)
        return (~unknown).float()[:, None]


def _rectangle(u: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Sides of a fifth to four fifths of the image's, anywhere inside it: (B, H, W) bool."""
    size = 0.2 + 0.6 * u[:, 1:3, None, None]
    first = u[:, 3:5, None, None] * (1 - size)
    inside = (y >= first[:, 0]) & (y < first[:, 0] + size[:, 0])
    return inside & (x >= first[:, 1]) & (x < first[:, 1] + size[:, 1])


def _half(u: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The left, right, upper or lower half: (B, H, W) bool."""
    side = (4 * u[:, 5, None, None]).floor()
    across = torch.where(side < 2, x, y)
    return torch.where(side % 2 == 0, across < 0.5, across >= 0.5)


def _stroke(u: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """All within some distance of a line through K points, each up to 0.5 from the one before: (B, H, W) bool."""
    b = len(u)
    angle, length = 2 * math.pi * u[:, 8 : 8 + ENDS], 0.5 * u[:, 8 + ENDS :]
    steps = torch.stack([angle.sin() * length, angle.cos() * length], -1)
    steps[:, 0] = u[:, 6:8]
    ends = steps.cumsum(1).clamp(0, 1)
    place = torch.stack(torch.broadcast_tensors(y, x), -1)
    nearest = torch.full((b, *place.shape[:2]), math.inf)
    for i in range(ENDS - 1):
        a, along = ends[:, i, None, None], (ends[:, i + 1] - ends[:, i])[:, None, None]
        share = ((place - a) * along).sum(-1, keepdim=True) / along.square().sum(-1, keepdim=True).clamp_min(1e-9)
        nearest = torch.minimum(nearest, (place - a - share.clamp(0, 1) * along).norm(dim=-1))
    return nearest < 0.05 + 0.1 * u[:, 5, None, None]
