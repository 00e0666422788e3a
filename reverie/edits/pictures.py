"""A user's pictures and masks, brought to the shape of a run's examples.

Letters in shapes: C channels, H height, W width, h and w those of a picture as it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from reverie.data.decoding import Channels, Resize, decode, image_size, reason
from reverie.edits.way import check_images
from reverie.runs import Run, check_data

HELD_OUT = "held-out:"
"""Begins the name of an example that the run was not trained on."""
ROUNDED = 1e-6
"""Pixels that rounding may add to a box."""
Box = tuple[int, int, int, int]
"""Left, top, width and height, in pixels of a picture as it is given."""


@dataclass(frozen=True)
class Source:
    """A picture by name: a file, or `held-out:17`, the 17th example from 0 that the run was not trained on.

    Raises:
        ValueError: the run is of no images, or there is no such picture.
    """

    run: Run
    name: str
    resize: Resize = "crop"

    def __post_init__(self) -> None:
        check_images(self.run)
        if not self.example and not Path(self.name).is_file():
            raise ValueError(f"there is no picture {self.name}; give an image file, or {HELD_OUT}0 for an example")

    @property
    def example(self) -> bool:
        """Whether it is one of the run's own examples."""
        return self.name.startswith(HELD_OUT)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w), as it is given."""
        shape = self.run.facts.shape
        return (shape[1], shape[2]) if self.example else _size(Path(self.name))

    @property
    def stem(self) -> str:
        """For the names of files."""
        return self.name.replace(":", "-") if self.example else Path(self.name).stem

    def pixels(self, shape: Sequence[int] | None = None) -> Tensor:
        """(1, C, H, W) uint8, of the run's shape or another one.

        A file has its colours made grey or its transparency laid over white where the shape has fewer channels.

        Raises:
            ValueError: the file is damaged, there is no such example, or it is to have another shape.
        """
        c, h, w = shape or self.run.facts.shape
        if not self.example:
            return _decoded(Path(self.name), (h, w), self.resize, cast(Channels, c))
        if (c, h, w) != self.run.facts.shape:
            raise ValueError(f"{self.name} is a whole picture; have it degraded first, with --measure")
        return self._example()

    def _example(self) -> Tensor:
        number, recipe = self.name.removeprefix(HELD_OUT), self.run.recipe
        examples = recipe.data.load()
        check_data(self.run, examples)
        rows = recipe.data.split(examples, recipe.train.validation, recipe.train.seed).validation
        if not number.isdecimal() or int(number) >= len(rows):
            raise ValueError(f"{self.run.path} has held-out examples {HELD_OUT}0 to {len(rows) - 1}; given {self.name}")
        return torch.from_numpy(examples.items[rows[int(number)]].copy())[None]


def known_of_mask(path: Path, source: Source) -> Tensor:
    """(1, 1, H, W) bool: known where a mask is black or transparent, and not where it is white.

    It is resized as the picture is; what is half white or more is white.

    Raises:
        ValueError: it is no image, or neither of the picture's size nor of the run's.
    """
    if not path.is_file():
        raise ValueError(f"there is no mask {path}; give an image file, white where the picture is to be painted anew")
    _, h, w = source.run.facts.shape
    size = _size(path)
    if size not in (source.size, (h, w)):
        high, wide = source.size
        raise ValueError(
            f"the mask {path} has {size[1]}x{size[0]} pixels and the picture {source.name} {wide}x{high}; a mask is as "
            f"large as the picture"
        )
    rgba = _decoded(path, (h, w), source.resize, 4).double()
    white = rgba[:, :3].mean(1, keepdim=True) * rgba[:, 3:] / 255
    return white < 127.5


def known_of_boxes(boxes: Sequence[Box], source: Source) -> Tensor:
    """(1, 1, H, W) bool: not known inside the boxes, resized as the picture is; a pixel that one touches is inside.

    Raises:
        ValueError: a box that is empty, or lies outside the picture, or is cut off with its border.
    """
    _, height, width = source.run.facts.shape
    known = torch.ones(1, 1, height, width, dtype=torch.bool)
    (h, w), scales = source.size, _scales(source.size, (height, width), source.resize)
    for left, top, wide, high in boxes:
        if min(wide, high) < 1 or min(left, top) < 0 or left + wide > w or top + high > h:
            raise ValueError(
                f"a box is left,top,width,height inside the picture of {w}x{h} pixels; given {left},{top},{wide},{high}"
            )
        rows = _span(top, high, scales[0], h, height)
        columns = _span(left, wide, scales[1], w, width)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            raise ValueError(f"the box {left},{top},{wide},{high} is cut off with the border; use --resize pad")
        known[..., rows, columns] = False
    return known


def _scales(size: tuple[int, int], target: tuple[int, int], resize: Resize) -> tuple[float, float]:
    """Of height and width."""
    high, wide = (to / own for own, to in zip(size, target, strict=True))
    if resize == "stretch":
        return high, wide
    scale = max(high, wide) if resize == "crop" else min(high, wide)
    return scale, scale


def _span(first: int, length: int, scale: float, own: int, target: int) -> slice:
    """Pixels of the target that any of those from `first` on lies on, the picture being in its middle."""
    shift = (target - own * scale) / 2
    start, end = first * scale + shift, (first + length) * scale + shift
    return slice(max(math.floor(start + ROUNDED), 0), min(math.ceil(end - ROUNDED), target))


def _size(path: Path) -> tuple[int, int]:
    try:
        wide, high = image_size(path)
    except Exception as error:
        raise ValueError(f"{path} is no picture that can be read: {reason(error, path)}") from None
    return high, wide


def _decoded(path: Path, size: tuple[int, int], resize: Resize, channels: Channels) -> Tensor:
    try:
        found = decode(path, size, resize, channels)
    except Exception as error:
        raise ValueError(f"{path} is no picture that can be read: {reason(error, path)}") from None
    return torch.from_numpy(found.copy())[None]  # pillow's own pixels cannot be written
