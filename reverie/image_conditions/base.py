"""What makes `Cond.image`.

Letters in shapes: B batch, C channels of the data, C' of what is told, H height, W width.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from torch import Tensor

from reverie.config import Part


class ImageCondition(Part, abc.ABC, family="image_condition"):
    """From x0 (B, C, H, W) in the model's space to the image (B, C', H, W) that the network is told."""

    @abc.abstractmethod
    def channels(self, shape: Sequence[int]) -> int:
        """C', for examples of this shape (C, H, W).

        Raises:
            ValueError: nothing of the kind can be made of such examples.
        """

    @abc.abstractmethod
    def of(self, x0: Tensor, draw: torch.Generator) -> Tensor:
        """What is told of x0 (B, C, H, W) in training.

        Row i of it depends on row i of x0 and on the draws, whose number the shape of x0 alone decides.

        Args:
            x0: data in the model's space.
            draw: on the CPU, for conditions that chance has a part in.
        """

    def given(self, picture: Tensor, mask: Tensor | None = None) -> Tensor:
        """What is told of a user's picture (B, C, H, W), which lies in the model's space: as of data.

        Args:
            picture: the picture.
            mask: (B or 1, 1, H, W), 1 where the picture is known; for conditions that leave some of it out.

        Raises:
            ValueError: a mask where none is used, or none where one is needed.
        """
        if mask is not None:
            raise ValueError(f"the image condition {self.kind!r} tells of the whole picture; give no mask")
        return self.of(picture, torch.Generator())


def image_shape(kind: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W).

    Raises:
        ValueError: examples of another number of axes.
    """
    if len(shape) != 3:
        raise ValueError(f"the image condition {kind!r} is made of images (C, H, W); given examples {tuple(shape)}")
    c, h, w = shape
    return c, h, w
