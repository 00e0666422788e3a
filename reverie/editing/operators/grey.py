"""Colours as brightness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.editing.operators.kronecker import Kronecker, image
from reverie.image_conditions.grey import LUMA


@dataclass(frozen=True)
class Grey(Kronecker, kind="grey"):
    """Luminance: (3, H, W) to (1, H, W), with the weights of ITU-R BT.601.

    Raises:
        ValueError: images that do not have three channels.
    """

    def shape(self, measured: Sequence[int]) -> tuple[int, ...]:
        _, h, w = image("grey", measured)
        return 3, h, w

    def matrices(self, shape: Sequence[int]) -> tuple[Tensor | None, ...]:
        c, _, _ = image("grey", shape)
        if c != 3:
            raise ValueError(f"the operator 'grey' acts on images in 3 colours; given {c} channels")
        return torch.tensor([LUMA], dtype=torch.float64), None, None
