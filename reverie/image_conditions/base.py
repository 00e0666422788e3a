"""What makes `Cond.image`.

Letters in shapes: B batch, C channels of the data, C' of what is told, H height, W width, ... axes of space.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from reverie.config import Part


@dataclass(frozen=True, eq=False)
class Shown:
    """What a network is told of B examples.

    Attributes:
        image: (B, C', ...), `Cond.image`.
        level: (B,), `Cond.level`, how much noise lies on the image; None where no level is told.
    """

    image: Tensor
    level: Tensor | None = None

    def __getitem__(self, index: slice) -> Shown:
        """What is told of some of the examples."""
        return Shown(self.image[index], None if self.level is None else self.level[index])


class ImageCondition(Part, abc.ABC, family="image_condition"):
    """From x0 (B, C, ...) in the model's space to the image (B, C', ...) that the network is told.

    Attributes:
        pixels: whether it is made of the pixels of images alone; else of other arrays too, such as latents.
        kept: whether it is told where all else is hidden, too, in training and by guidance.
    """

    pixels: ClassVar[bool] = True
    kept: ClassVar[bool] = False

    @property
    def levels(self) -> bool:
        """Whether noise lies on what is told, and its level is told with it."""
        return False

    @abc.abstractmethod
    def channels(self, shape: Sequence[int]) -> int:
        """C', for examples of this shape (C, ...).

        Raises:
            ValueError: nothing of the kind can be made of such examples.
        """

    @abc.abstractmethod
    def of(self, x0: Tensor, draw: torch.Generator) -> Shown:
        """What is told of x0 (B, C, ...) in training.

        Row i of it depends on row i of x0 and on the draws, whose number the shape of x0 alone decides.

        Args:
            x0: data in the model's space.
            draw: on the CPU, for conditions that chance has a part in.
        """

    def given(self, picture: Tensor, mask: Tensor | None = None) -> Shown:
        """What is told of a user's picture (B, C, ...), which lies in the model's space: as of data, at level 0.

        Args:
            picture: the picture.
            mask: (B or 1, 1, H, W), 1 where the picture is known; for conditions that leave some of it out.

        Raises:
            ValueError: a mask where none is used, or none where one is needed.
        """
        self.refuse(mask)
        return self.of(picture, torch.Generator())

    def refuse(self, mask: Tensor | None) -> None:
        """For conditions that have no use for a mask.

        Raises:
            ValueError: there is one.
        """
        if mask is not None:
            raise ValueError(f"the image condition {self.kind!r} tells of the whole picture; give no mask")


def image_shape(kind: str, shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W).

    Raises:
        ValueError: examples of another number of axes.
    """
    if len(shape) != 3:
        raise ValueError(f"the image condition {kind!r} is made of images (C, H, W); given examples {tuple(shape)}")
    c, h, w = shape
    return c, h, w
