"""From pictures as data to what a network takes, in floating point and without rounding in between.

Letters in shapes: B batch, C channels, H height, W width, S side of the square that a network sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.config import Plain

Resize = Callable[[Tensor, int], Tensor]
"""(B, C, H, W) float in [0, 255] and S -> (B, C, S, S) in [0, 255]."""

Triple = tuple[float, float, float]
"""One number each of red, green and blue."""


def rgb(items: Tensor) -> Tensor:
    """uint8 (B, C, H, W) -> float32 (B, 3, H, W) in [0, 255]; grey is repeated, alpha is laid over white."""
    x = items.to(torch.float32)
    if x.shape[1] == 4:
        alpha = x[:, 3:] / 255
        x = x[:, :3] * alpha + 255 * (1 - alpha)
    return x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x


def bicubic(x: Tensor, side: int) -> Tensor:
    """Cubic interpolation (Keys, 1981, a = -1/2), its kernel widened where the picture shrinks; clipped."""
    return F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(0, 255)


def bilinear(x: Tensor, side: int) -> Tensor:
    """Linear interpolation, its kernel widened where the picture shrinks."""
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True)


def tensorflow(x: Tensor, side: int) -> Tensor:
    """Linear interpolation as TensorFlow 1 had it: pixel i of S is read at i H / S, and nothing is averaged.

    Parmar, Zhang and Zhu (2022), section 3, tell what is wrong with it; published FIDs are measured with it.
    """
    for axis in (2, 3):
        size = x.shape[axis]
        at = torch.arange(side, dtype=torch.float32, device=x.device) * (size / side)
        low = at.floor().long().clamp(max=size - 1)
        high = (low + 1).clamp(max=size - 1)
        share = at - low
        share = share.reshape((-1, 1) if axis == 2 else (-1,))
        a = x.index_select(axis, low)
        x = a + (x.index_select(axis, high) - a) * share
    return x


def shrunk(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) with no side longer than `side`, in its proportions: means over areas; smaller ones as they are."""
    longest = max(x.shape[2:])
    if longest <= side:
        return x
    height, width = (max(1, round(n * side / longest)) for n in x.shape[2:])
    return F.interpolate(x, (height, width), mode="area")


IN_WORDS: dict[Resize, str] = {
    bicubic: "bicubic with antialiasing",
    bilinear: "bilinear with antialiasing",
    tensorflow: "bilinear as in TensorFlow 1, without antialiasing",
}


@dataclass(frozen=True)
class Preparation:
    """The whole picture, stretched to a square, less a mean and over a scale: (x - mean) / std of x in [0, 255]."""

    side: int
    mean: Triple
    std: Triple
    resize: Resize = bicubic

    def __call__(self, items: Tensor) -> Tensor:
        """uint8 (B, C, H, W) -> float32 (B, 3, S, S)."""
        x = self.resize(rgb(items), self.side)
        mean, std = (x.new_tensor(each).reshape(3, 1, 1) for each in (self.mean, self.std))
        return (x - mean) / std

    def about(self) -> dict[str, Plain]:
        """How pictures are prepared, for the protocol."""
        return {
            "resize": f"{IN_WORDS[self.resize]}, the whole picture to {self.side}x{self.side}",
            "quantization": "none after the resize",
            "channels": "grey repeated, alpha over white",
            "mean": list(self.mean),
            "std": list(self.std),
        }
