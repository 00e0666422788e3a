"""Colours as brightness, for colourisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.image_conditions.base import ImageCondition, Shown, image_shape

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue weigh in brightness (ITU-R BT.601)."""


def luminance(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 1, H, W): the weights of `LUMA` for three channels, else the mean."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    weights = torch.tensor(LUMA, dtype=x.dtype, device=x.device)
    return (x * weights[:, None, None]).sum(1, keepdim=True)


@dataclass(frozen=True)
class Grey(ImageCondition, kind="grey"):
    """The luminance of a picture in colours; one channel.

    Raises:
        ValueError: for examples that do not have three channels.
    """

    def channels(self, shape: Sequence[int]) -> int:
        c, _, _ = image_shape("grey", shape)
        if c != 3:
            raise ValueError(f"the image condition 'grey' is made of images in 3 colours; given {c} channels")
        return 1

    def of(self, x0: Tensor, draw: torch.Generator) -> Shown:
        self.channels(x0.shape[1:])
        return Shown(luminance(x0))
