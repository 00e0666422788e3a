"""A sheet of what was given and what was made of it.

Letters in shapes: n results, C channels, H height, W width, h and w those of a picture that is shown beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from reverie import pictures

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

ROW = 10
"""The most results in a row."""


def edit_sheet(given: Sequence[Tensor], made: Tensor, names: Sequence[str] = ()) -> Picture:
    """What was given, one row, and what was made, row by row or, where names differ, a row for each.

    Args:
        given: (1, C, h, w) uint8 each.
        made: (n, C, H, W) uint8.
        names: of the n wishes; '' for none.
    """
    size = (made.shape[2], made.shape[3])
    shown = np.stack([_shown(picture.numpy()[0], size) for picture in given])
    results = np.stack([_shown(picture, size) for picture in made.numpy()])
    kinds = list(dict.fromkeys(names))
    if len(kinds) < 2:
        rows = [results[i : i + ROW] for i in range(0, len(results), ROW)]
        titles = [*kinds, *[""] * len(rows)][: len(rows)]
    elif len(kinds) == len(names):
        rows = [results[i : i + ROW] for i in range(0, len(results), ROW)]
        titles = [", ".join(names[i : i + ROW]) for i in range(0, len(results), ROW)]
    else:
        place = np.array([kinds.index(name) for name in names])
        rows, titles = [results[place == k] for k in range(len(kinds))], kinds
    return pictures.sheet([shown, *rows], row_labels=["given", *titles])


def _shown(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) as (3, H, W): in whole pixels as large as will fit, on white, alpha over a checkerboard."""
    scale = max(1, min(size[0] // picture.shape[1], size[1] // picture.shape[2]))
    colours = np.moveaxis(pictures.rgb(picture, scale), -1, 0)[:, : size[0], : size[1]]
    page = np.full((3, *size), 255, np.uint8)
    top, left = ((whole - part) // 2 for whole, part in zip(size, colours.shape[1:], strict=True))
    page[:, top : top + colours.shape[1], left : left + colours.shape[2]] = colours
    return page
