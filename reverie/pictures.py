"""Pictures for people: sheets of images, PNG files that say where they come from, animations.

Letters in shapes: N images, C channels (1 grey, 3 RGB, 4 RGBA), H height, W width. Images are
uint8, 0 to 255, channels first.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.files import atomic

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFont import FreeTypeFont

KEY = "reverie"
"""Name of the PNG text chunk that holds the metadata."""

PAPER, INK = (255, 255, 255), (40, 40, 40)
LEAST = 56
"""Tiny images are enlarged by the smallest whole factor that brings their longer side to this many pixels."""
WIDEST, LINES = 240, 2
"""Pixels and lines of a label at the left of a row, at the most."""
GAP = 3
"""Pixels from a line of letters to the next."""
LONGEST = 500
"""Letters of either end of a text that are looked at."""


def rgb(image: np.ndarray, scale: int = 1) -> np.ndarray:
    """One image (C, H, W) as (H scale, W scale, 3): each pixel a block, alpha over a checkerboard.

    Raises:
        ValueError: the image is not uint8, or C is not 1, 3 or 4.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise ValueError(f"a picture is uint8 of shape (C, H, W) with C 1, 3 or 4; given {image.dtype} {image.shape}")
    pixels = np.moveaxis(image, 0, -1).repeat(scale, 0).repeat(scale, 1)
    if pixels.shape[-1] != 4:
        return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    rows, columns = np.indices(pixels.shape[:2]) // max(4, scale)
    board = np.where((rows + columns) % 2, 205, 240)[..., None].astype(np.float64)
    alpha = pixels[..., 3:] / 255.0
    blended: np.ndarray = np.rint(alpha * pixels[..., :3] + (1 - alpha) * board)
    return blended.astype(np.uint8)


def sheet(
    rows: Sequence[np.ndarray],
    *,
    scale: int | None = None,
    pad: int = 4,
    row_labels: Sequence[str] | None = None,
) -> Picture:
    """Rows of images of one size, on white, with an optional label at the left of each row.

    Args:
        rows: arrays (N_r, C, H, W) uint8; rows may be of different length, even empty.
        scale: whole factor of enlargement, every pixel a crisp block; by default tiny images are
            enlarged to a longer side of at least `LEAST` pixels and others are left as they are.
        pad: pixels between images and around them.
        row_labels: one text a row, in two lines where it is long and the row is high enough; see `legible`.

    Raises:
        ValueError: no image at all, images of several shapes, or as many labels as rows not given.
    """
    from PIL import Image, ImageDraw

    shapes = {row.shape[1:] for row in rows if len(row)}
    if len(shapes) != 1:
        raise ValueError(f"a sheet needs images of one shape; given {sorted(shapes) or 'none'}")
    if row_labels is not None and len(row_labels) != len(rows):
        raise ValueError(f"one label a row: {len(row_labels)} labels for {len(rows)} rows")
    _, high, wide = next(iter(shapes))
    scale = scale or max(1, math.ceil(LEAST / max(high, wide)))
    high, wide, columns = high * scale, wide * scale, max(len(row) for row in rows)
    tall = max(11, min(16, high // 2))
    letters, step = font(tall) if any(row_labels or ()) else None, tall + GAP
    labels: list[list[str]] = []
    wanted = 0.0
    if letters is not None:
        most = max(1, min(LINES, (high + pad) // step))
        labels = [lines(legible(text, r), WIDEST, letters, most) for r, text in enumerate(row_labels or ())]
        wanted = max((letters.getlength(line) for label in labels for line in label), default=0.0)
    left = pad + (math.ceil(wanted) + 2 * pad + 4 if row_labels else 0)
    page = np.full((pad + len(rows) * (high + pad), left + columns * (wide + pad), 3), PAPER, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, start = pad + r * (high + pad), left + c * (wide + pad)
            page[top : top + high, start : start + wide] = rgb(image, scale)
    picture = Image.fromarray(page)
    draw = ImageDraw.Draw(picture)
    for r, label in enumerate(labels):
        middle = pad + r * (high + pad) + high // 2
        for i, line in enumerate(label):
            place = middle + round((i - (len(label) - 1) / 2) * step)
            draw.text((left - pad - 4, place), line, fill=INK, font=letters, anchor="rm")
    return picture


# ----------------------------------------------------------------------------------- letters


def font(size: int) -> FreeTypeFont:
    """DejaVu Sans, which matplotlib brings, its letters so many pixels high: Latin, Greek, Cyrillic and some more."""
    from PIL import ImageFont

    return ImageFont.truetype(_file(), size)


def _file() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@cache
def _glyphs() -> frozenset[int]:
    """The characters that `font` can draw."""
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(_file()).get_charmap())


def legible(text: str, number: int) -> str:
    """A text as it can be drawn: without words of which `font` lacks a letter, behind `#number` where there are such.

    So what cannot be drawn can be looked up. Chinese and Japanese letters and most emoji are such.

    >>> legible("a red heart", 3), legible("the word 猫", 3)
    ('a red heart', '#3 the word')
    """
    words = text.split()
    if text.isascii():
        return " ".join(words)
    kept = [word for word in words if all(ord(letter) in _glyphs() for letter in word)]
    return " ".join(kept if len(kept) == len(words) else [f"#{number}", *kept])


def lines(text: str, wide: float, letters: FreeTypeFont, most: int) -> list[str]:
    """A text in at most `most` lines of so many pixels, broken between words where it can be.

    One that is too long has three dots in its last line, and ends there as it does: what texts differ in is often
    their end.
    """
    left, found = " ".join(text.split()), list[str]()
    left = left if len(left) <= 2 * LONGEST else left[:LONGEST] + left[-LONGEST:]  # the middle is not shown
    while left and len(found) < most:
        end = len(left)
        while end > 1 and letters.getlength(left[:end]) > wide:
            end -= 1 if end < 200 else end // 2
        if end < len(left) and len(found) == most - 1:
            return [*found, _squeezed(left, wide, letters)]
        if end < len(left) and left[end] != " " and " " in left[:end]:
            end = left.rindex(" ", 0, end)
        found.append(left[:end])
        left = left[end:].lstrip()
    return found


def _squeezed(text: str, wide: float, letters: FreeTypeFont) -> str:
    """Beginning and end of a text with three dots between, in so many pixels."""
    kept = min(len(text) - 1, LONGEST)
    while kept and letters.getlength(_dotted(text, kept)) > wide:
        kept -= 1
    return _dotted(text, kept)


def _dotted(text: str, kept: int) -> str:
    """Three dots between the first half of so many letters and the other half, less words of which there is a part."""
    head, tail = kept - kept // 2, len(text) - kept // 2
    if text[head] != " " and " " in text[:head]:
        head = text.rindex(" ", 0, head)
    if text[tail - 1] != " " and " " in text[tail:]:
        tail = text.index(" ", tail)
    return f"{text[:head].rstrip()}...{text[tail:].lstrip()}"


def grid(
    images: np.ndarray,
    columns: int | None = None,
    scale: int | None = None,
    pad: int = 4,
    row_labels: Sequence[str] | None = None,
) -> Picture:
    """Images (N, C, H, W) in reading order; see `sheet` for `scale`, `pad` and `row_labels`.

    Args:
        images: uint8, C of 1, 3 or 4.
        columns: images a row; by default as many as make the labelled rows, or a square.
        scale: whole factor of enlargement.
        pad: pixels between images.
        row_labels: one text a row.

    Raises:
        ValueError: the array is no stack of images, is empty, or the labels are not one a row.
    """
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"a grid needs images of shape (N, C, H, W) with N > 0; given {images.shape}")
    if columns is None:
        columns = math.ceil(len(images) / len(row_labels) if row_labels else math.sqrt(len(images)))
    if columns < 1:
        raise ValueError(f"columns must be at least 1; given {columns}")
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    return sheet(rows, scale=scale, pad=pad, row_labels=row_labels)


# ----------------------------------------------------------------------------------- files


def save_png(image: Picture, path: str | os.PathLike[str], metadata: dict[str, Any] | None = None) -> None:
    """Write a PNG, whole or not at all, with `metadata` as JSON in the text chunk `reverie`.

    Raises:
        ValueError: `path` does not end in .png.
        TypeError: `metadata` has no JSON form.
        OSError: the file cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"a PNG is written to a path ending in .png; given {os.fspath(path)!r}")
    chunks = PngInfo()
    if metadata is not None:
        chunks.add_text(KEY, json.dumps(metadata))
    with atomic(path) as temp:
        image.save(temp, format="PNG", pnginfo=chunks)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `save_png` or `save_animation` stored with the picture; empty when it carries nothing of ours.

    Raises:
        ValueError: the file is not a picture, or its metadata is damaged.
        OSError: the file cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG", "GIF", "WEBP")) as image:
            found = image.info.get({"GIF": "comment", "WEBP": "xmp"}.get(image.format or "", KEY))
    except (UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{os.fspath(path)} is not a PNG, GIF or WebP picture") from error
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found or "")
    if not text.lstrip().startswith("{"):
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"the metadata of {os.fspath(path)} is damaged: {error}") from None
    assert isinstance(value, dict)
    return value


def save_animation(
    frames: Iterable[Picture],
    path: str | os.PathLike[str],
    fps: float = 12.0,
    metadata: dict[str, Any] | None = None,
) -> None:
    """Write an endless .gif or lossless .webp whose last frame stays for 1.5 seconds.

    A GIF has 256 colours: grey frames are exact, others get a palette of their own without
    dithering. Its clock ticks in hundredths of a second, which bounds `fps` to 50.

    Args:
        frames: pictures of one size.
        path: where to; the suffix says the format.
        fps: frames a second, in (0, 50].
        metadata: stored as JSON, in the GIF comment or the WebP XMP block.

    Raises:
        ValueError: no frames, frames of several sizes, `fps` out of range, or another suffix.
        OSError: the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".gif", ".webp"):
        raise ValueError(f"an animation is written to a .gif or .webp; given {os.fspath(path)!r}")
    if not 0 < fps <= 50:
        raise ValueError(f"fps must lie in (0, 50]; given {fps}")
    pictures = [frame.convert("RGB") for frame in frames]
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) != 1:
        raise ValueError(f"an animation needs frames of one size; given {sizes or 'none'}")
    durations = [round(100 / fps) * 10] * (len(pictures) - 1) + [1500]
    note = json.dumps(metadata).encode() if metadata is not None else b""
    options: dict[str, Any] = {"lossless": True, "xmp": note} if suffix == ".webp" else {"comment": note}
    if suffix == ".gif":
        pictures = [_paletted(picture) for picture in pictures]
    with atomic(path) as temp:
        pictures[0].save(
            temp,
            format=suffix[1:].upper(),
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
            **options,
        )


def _paletted(picture: Picture) -> Picture:
    from PIL import Image

    pixels = np.asarray(picture)
    if (pixels == pixels[..., :1]).all():
        return picture.convert("L")
    return picture.quantize(256, dither=Image.Dither.NONE)
