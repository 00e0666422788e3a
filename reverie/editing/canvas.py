"""Room around an image, for outpainting.

Letters in shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Margins:
    """Pixels to add on each side.

    Raises:
        ValueError: a negative number, or none to add at all.
    """

    top: int = 0
    right: int = 0
    bottom: int = 0
    left: int = 0

    def __post_init__(self) -> None:
        sides = (self.top, self.right, self.bottom, self.left)
        if min(sides) < 0 or not any(sides):
            raise ValueError(f"margins are pixels to add, at least 0 and not all 0; given {sides}")


def enlarged(x: Tensor, margins: Margins) -> tuple[Tensor, Tensor]:
    """The image (B, C, H, W) on a larger canvas, 0 around it, and the mask (1, 1, H', W'), True where it is known.

    For networks that take other sizes than they were trained at, such as the U-Net.
    """
    pad = (margins.left, margins.right, margins.top, margins.bottom)
    known = torch.ones(1, 1, *x.shape[2:], dtype=torch.bool, device=x.device)
    return F.pad(x, pad), F.pad(known, pad)


def shifted(x: Tensor, margins: Margins) -> tuple[Tensor, Tensor]:
    """The same on a canvas of the old size: what is added on one side is cut off on the other, and (1, 1, H, W).

    Raises:
        ValueError: nothing of the image is left.
    """
    h, w = x.shape[2:]
    if margins.top + margins.bottom >= h or margins.left + margins.right >= w:
        raise ValueError(f"margins that leave something of an image of {h}x{w} are smaller; given {margins}")
    inside = x[..., margins.bottom : h - margins.top, margins.right : w - margins.left]
    return enlarged(inside, margins)
