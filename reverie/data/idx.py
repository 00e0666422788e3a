"""Images in the idx format of MNIST (LeCun, Cortes and Burges, 1998), plain or gzipped; Fashion-MNIST.

An idx file is two zero bytes, one byte for the type, one for the number of axes, the length of
each axis as a big-endian uint32, then the numbers, big-endian.

Letters in shapes: N images, H height, W width.
"""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from reverie.data.base import Data, Examples

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}

GARMENTS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
"""The classes of Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017), in the order of their labels."""

SYSTEM = Path("/usr/share/datasets/fashion-mnist")
"""Where the Debian package dataset-fashion-mnist puts its files."""


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file, in the machine's byte order.

    Raises:
        ValueError: it is damaged or no idx file; the message names it.
        OSError: it cannot be read.
    """
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    try:
        if zipped:
            with gzip.open(path, "rb") as stream:
                return _parse(stream)
        with path.open("rb") as file:
            return _parse(file)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is damaged or not an idx file: {error}") from None


def _parse(file: gzip.GzipFile | IO[bytes]) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or head[3] == 0:
        raise ValueError(f"it begins with {head.hex(' ') or 'nothing'}, not with 00 00, type, axes")
    axes = file.read(4 * head[3])
    if len(axes) < 4 * head[3]:
        raise ValueError("it ends within its header")
    shape = tuple(int(n) for n in np.frombuffer(axes, ">u4"))
    dtype = np.dtype(TYPES[head[2]])
    size = math.prod(shape) * dtype.itemsize
    data = _at_most(file, size + 1)  # one too many: that also checks the end of a gzip stream
    if len(data) != size:
        more = "more" if len(data) > size else f"{len(data):,}"
        axes_text = " x ".join(map(str, shape))
        raise ValueError(f"its header promises {size:,} bytes ({axes_text}); it holds {more}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _at_most(file: gzip.GzipFile | IO[bytes], size: int) -> bytes:
    """The next `size` bytes or fewer, in blocks: a damaged header must not make us ask for all the memory."""
    data = bytearray()
    while len(data) < size and (block := file.read(min(1 << 24, size - len(data)))):
        data += block
    return bytes(data)


def _find(folder: Path, part: str, what: str) -> Path | None:
    """The file of a `part`, train or t10k, and of `what`, images or labels: train-images-idx3-ubyte.gz."""
    pattern = re.compile(rf"(.*[-_])?{part}-{what}[-.]idx\d-ubyte(\.gz)?", re.IGNORECASE)
    found = sorted(p for p in folder.iterdir() if pattern.fullmatch(p.name)) if folder.is_dir() else []
    if len({p.name.removesuffix(".gz") for p in found}) > 1:
        listed = ", ".join(p.name for p in found)
        raise ValueError(f"{folder} holds several sets: {listed}; give each a folder of its own")
    return found[0] if found else None


def holds_idx(folder: Path) -> bool:
    """Whether a folder holds images in idx files."""
    return any(_find(folder, part, "images") for part in ("train", "t10k"))


def read_folder(folder: Path, names: tuple[str, ...] = ()) -> Examples:
    """The training images of a folder, then its test images, which are the official test set.

    Args:
        folder: with (train|t10k)-(images|labels)-idx?-ubyte files, plain or .gz.
        names: of the classes; by default the labels themselves.

    Raises:
        ValueError: the images are missing, damaged, not (N, H, W) bytes or do not fit the labels.
    """
    parts = {part: _read_part(folder, part) for part in ("train", "t10k") if _find(folder, part, "images")}
    if not parts:
        raise ValueError(f"{folder} holds no idx images, such as train-images-idx3-ubyte.gz")
    if len({images.shape[1:] for images, _ in parts.values()}) > 1:
        raise ValueError(f"the training and test images of {folder} are of different sizes")
    if len({labels is None for _, labels in parts.values()}) > 1:
        raise ValueError(f"{folder} has labels for only one of its training and test images")
    items = np.concatenate([images for images, _ in parts.values()])[:, None]
    found = [labels for _, labels in parts.values() if labels is not None]
    labels = np.concatenate(found) if found else None
    if labels is not None:
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or (names and most >= len(names)):
            raise ValueError(f"the labels of {folder} run from {least} to {most}; expected 0 to {len(names) - 1}")
        names = names or tuple(map(str, range(most + 1)))
    first = len(parts["train"][0]) if len(parts) == 2 else len(items)
    held_out = np.arange(first, len(items)) if len(parts) == 2 else None
    return Examples(items, labels, names if found else (), image=True, held_out=held_out)


def _read_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray | None]:
    path, label_path = _find(folder, part, "images"), _find(folder, part, "labels")
    assert path is not None
    images = read_idx(path)
    if images.ndim != 3 or images.dtype != np.uint8 or images.size == 0:
        raise ValueError(f"{path} must hold bytes (N, H, W); it holds {images.dtype} {images.shape}")
    if label_path is None:
        return images, None
    labels = read_idx(label_path)
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(f"{label_path} must hold {len(images)} whole numbers; it holds {labels.dtype} {labels.shape}")
    return images, labels.astype(np.int64)


@dataclass(frozen=True)
class Idx(Data, kind="idx"):
    """MNIST and its kin: idx files in the folder `path`, (N, 1, H, W), classes '0' to the largest label."""

    path: str

    def load(self) -> Examples:
        """Training images, then test images.

        Raises:
            ValueError: the files are missing or damaged; the message names them.
        """
        return read_folder(Path(self.path).expanduser())

    @classmethod
    def opens(cls, path: Path) -> Idx | None:
        """A folder of idx files that is not called fashion."""
        return cls(str(path)) if holds_idx(path) and not _fashionable(path) else None


@dataclass(frozen=True)
class Fashion(Data, kind="fashion"):
    """Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017; MIT): 60,000 + 10,000 garments, (N, 1, 28, 28).

    Read from `path`; without one, from where Debian's dataset-fashion-mnist puts it, else from the
    folder $REVERIE_DATA/fashion-mnist or $REVERIE_DATA.
    """

    path: str | None = None

    def load(self) -> Examples:
        """60,000 training images, then the 10,000 of the official test set.

        Raises:
            ValueError: the files are missing or damaged.
        """
        return read_folder(self._folder(), GARMENTS)

    def _folder(self) -> Path:
        if self.path is not None:  # a wrong path is an error, never a reason to read something else
            places = [Path(self.path).expanduser()]
        else:
            home = os.environ.get("REVERIE_DATA")
            places = [SYSTEM] + ([Path(home) / "fashion-mnist", Path(home)] if home else [])
        for place in places:
            if holds_idx(place):
                return place
        raise ValueError(
            f"Fashion-MNIST is not in {' or '.join(map(str, places))}: apt-get install dataset-fashion-mnist, "
            "or write data.path=FOLDER with the folder of its four idx files"
        )

    @classmethod
    def opens(cls, path: Path) -> Fashion | None:
        """A folder of idx files that is called fashion."""
        return cls(str(path)) if holds_idx(path) and _fashionable(path) else None


def _fashionable(path: Path) -> bool:
    return "fashion" in path.name.lower()
