"""Pictures for people: sheets of images, PNG files that say where they come from, animations.

Letters in shapes: N images, C channels (1 grey, 3 RGB, 4 RGBA), H height, W width. Images are
uint8, 0 to 255, channels first.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie.files import atomic

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from PIL.ImageFont import FreeTypeFont, ImageFont

KEY = "reverie"
"""Name of the PNG text chunk that holds the metadata."""

PAPER, INK = (255, 255, 255), (40, 40, 40)
LEAST = 56
"""Tiny images are enlarged by the smallest whole factor that brings their longer side to this many pixels."""


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
        row_labels: one text a row.

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
    labels = [_shorten(text) for text in row_labels or ()]
    font = _font(max(11, min(16, high // 2)))
    left = pad + (math.ceil(max(font.getlength(text) for text in labels)) + 2 * pad + 4 if labels else 0)
    size = (left + columns * (wide + pad), pad + len(rows) * (high + pad))
    page = np.full((size[1], size[0], 3), PAPER, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            top, start = pad + r * (high + pad), left + c * (wide + pad)
            page[top : top + high, start : start + wide] = rgb(image, scale)
    picture = Image.fromarray(page)
    draw = ImageDraw.Draw(picture)
    for r, text in enumerate(labels):
        middle = pad + r * (high + pad) + high // 2
        draw.text((left - pad - 4, middle), text, fill=INK, font=font, anchor="rm")
    return picture


def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _shorten(text: str, most: int = 28) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


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
