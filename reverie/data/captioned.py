"""What a look tells of captions and attributes, and pictures with their captions under them.

Letters in shapes: N examples, C channels, H height, W width, D numbers of an attribute.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reverie.data.base import Attribute
from reverie.pictures import GAP, INK, PAPER, font, legible, lines, rgb

EXAMPLES = 3
"""Captions that are shown."""

WIDTH, LINES, SIZE = 120, 3, 11
"""Least width of a caption, and longer side of its picture, in pixels; its lines; the size of its letters in pixels."""


@dataclass(frozen=True)
class Captions:
    """What is known of N captions.

    Attributes:
        count: how many examples have one.
        missing: how many have none.
        shortest, median, longest: length in words; 0 without captions.
        examples: a few of them, evenly spaced through the data.
    """

    count: int
    missing: int
    shortest: int
    median: float
    longest: int
    examples: tuple[str, ...]

    def line(self) -> str:
        """The findings in one line."""
        if not self.count:
            return "none"
        without = f"; {self.missing:,} without" if self.missing else ""
        shown = ", ".join(f'"{_cut(text, 60)}"' for text in self.examples)
        words = f"{self.shortest:,} to {self.longest:,} words, median {self.median:g}"
        return f"{self.count:,} of {words}{without}; such as {shown}"


def captions(texts: Sequence[str], count: int) -> Captions:
    """Look at captions.

    Args:
        texts: N, '' for none; or none at all.
        count: N.
    """
    told = [text for text in texts if text]
    if not told:
        return Captions(0, count, 0, 0.0, 0, ())
    lengths = [len(text.split()) for text in told]
    different = list(dict.fromkeys(told))
    places = np.linspace(0, len(different) - 1, min(EXAMPLES, len(different))).round().astype(int)
    return Captions(
        len(told),
        count - len(told),
        min(lengths),
        float(np.median(lengths)),
        max(lengths),
        tuple(different[i] for i in places),
    )


def attribute_line(attribute: Attribute) -> str:
    """A name, and the classes with their counts or the range of the numbers, in one line."""
    values = attribute.values
    if attribute.classes:
        unknown = int((values < 0).sum())
        counts = np.bincount(values[values >= 0], minlength=len(attribute.classes))
        named = [f"{_cut(name, 30)} ({n:,})" for name, n in zip(attribute.classes, counts, strict=True)]
        more = f", and {len(named) - 12:,} more" if len(named) > 12 else ""
        said = f"{len(named):,} classes, {', '.join(named[:12])}{more}"
    else:
        known = values[~np.isnan(values).any(1)].astype(np.float64)
        unknown = len(values) - len(known)
        wide = f"{values.shape[1]:,} numbers, " if values.shape[1] > 1 else ""
        said = f"{wide}{known.min():.4g} to {known.max():.4g}, mean {known.mean():.4g}" if len(known) else wide + "-"
    return f"{_cut(attribute.name, 30)}: {said}{f'; {unknown:,} unknown' if unknown else ''}"


def _cut(text: str, most: int) -> str:
    """A text from a file on one line, cut short, without what steers a terminal."""
    text = "".join(c for c in " ".join(text[: 10 * most].split()) if unicodedata.category(c) != "Cc")
    return text if len(text) <= most else text[: most - 3] + "..."


# ------------------------------------------------------------------------------------------- drawing


def with_caption(image: np.ndarray, text: str, number: int) -> np.ndarray:
    """A picture (C, H, W) uint8, enlarged where it is tiny, over its caption: (3, H', W'), of one size for all.

    Long captions have three dots in their last line; what cannot be drawn is left out, and `#number` says so: see
    `reverie.pictures.legible`.
    """
    from PIL import Image, ImageDraw

    pixels = rgb(image, max(1, math.ceil(WIDTH / max(image.shape[1:]))))
    high, wide = len(pixels), max(WIDTH, pixels.shape[1])
    letters, step = font(SIZE), SIZE + GAP
    page = np.full((high + LINES * step + 2, wide, 3), PAPER, np.uint8)
    page[:high, : pixels.shape[1]] = pixels
    picture = Image.fromarray(page)
    draw = ImageDraw.Draw(picture)
    for place, line in enumerate(lines(legible(text, number), wide, letters, LINES)):
        draw.text((0, high + 2 + place * step), line, fill=INK, font=letters)
    return np.moveaxis(np.asarray(picture), -1, 0)
