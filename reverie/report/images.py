"""Pictures as data inside a page, as crisp as the room for them allows.

Letters in shapes: none.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

LOSSY = (90, 75)
"""Qualities of a lossy picture, tried in turn."""
LEAST = 64
"""Pixels below which no picture is made smaller."""


@dataclass(frozen=True)
class Still:
    """A picture as a page takes it."""

    source: str
    """A data: URI."""
    width: int
    height: int
    alt: str = ""


@dataclass(frozen=True)
class Group:
    """Pictures of one size in one place, of which one is seen at a time."""

    caption: str
    frames: tuple[Still, ...]


@dataclass(frozen=True)
class Player:
    """Groups that go together, moved by one slider; the last frame is what is seen without it."""

    name: str
    title: str
    labels: tuple[str, ...]
    groups: tuple[Group, ...]


def stills(pictures: Sequence[Picture], alts: Sequence[str], budget: int) -> tuple[Still, ...]:
    """Pictures within so many bytes in all: without loss if that fits, else with little, else smaller.

    Args:
        pictures: any number.
        alts: what stands for each where it is not seen.
        budget: bytes, before they become text.
    """
    shown = list(pictures)
    data = [_webp(p, None) for p in shown]
    while sum(map(len, data)) > budget:
        for quality in LOSSY:
            data = [_webp(p, quality) for p in shown]
            if sum(map(len, data)) <= budget:
                break
        else:
            if min(min(p.size) for p in shown) < 2 * LEAST:
                break
            shown = [p.resize((p.width * 2 // 3, p.height * 2 // 3)) for p in shown]
    return tuple(
        Still(f"data:image/webp;base64,{base64.b64encode(d).decode()}", p.width, p.height, alt)
        for d, p, alt in zip(data, pictures, alts, strict=True)
    )


def _webp(picture: Picture, quality: int | None) -> bytes:
    """Without loss unless a quality is given."""
    buffer = io.BytesIO()
    if quality is None:
        picture.convert("RGB").save(buffer, "WEBP", lossless=True, quality=60, method=3)
    else:
        picture.convert("RGB").save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()


def opened(path: Path) -> Picture:
    """A picture file, read to its end.

    Raises:
        ValueError: it is damaged; the sentence begins with it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=("PNG",)) as picture:
            picture.load()
            return picture.convert("RGB")
    except (UnidentifiedImageError, SyntaxError, OSError, ValueError) as error:
        why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise ValueError(f"it is no whole PNG picture{why}") from None
