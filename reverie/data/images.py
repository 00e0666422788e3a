"""A folder of images, decoded once into a memory-mapped cache.

Letters in shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar, get_args

import numpy as np

from reverie.data import cache
from reverie.data.base import Data, Examples, Skipped
from reverie.data.captions import judged, told
from reverie.data.decoding import Channels, Resize, decode, formats, image_size, reason
from reverie.data.metadata import printable

log = logging.getLogger("reverie")


@dataclass(frozen=True)
class Found:
    """An image file: its path below the folder, its size in bytes, when it changed in nanoseconds."""

    path: str
    size: int
    changed: int


@dataclass(frozen=True)
class Folder(Data, kind="folder"):
    """All images below a folder, (N, C, H, W) uint8, in the order of their names.

    The first sub-folder on the way to an image is its class. Files and folders whose name begins with
    a dot are left out; so are links that lead out of the folder, and damaged files, both named in
    `Examples.skipped`. Pixels are decoded once, into $REVERIE_CACHE or ~/.cache/reverie.

    Captions and attributes are read each time, from metadata.jsonl, metadata.csv or text files beside the images; see
    `reverie.data.captions` and `reverie.data.columns`. What is wrong with them is in `Examples.troubles`; last
    stand there, as `LeftOut`, the columns that are no attributes.

    Attributes:
        path: the folder.
        size: side of the square, or (H, W); None when all images are of one size already.
        resize: `crop` the middle, `pad` to fit, or `stretch`; see `reverie.data.decoding.decode`.
        channels: 1, 3 or 4; None: 1 if all images are grey, 4 if any is transparent, else 3.
        strict: whether what is wrong with captions or attributes is an error.
    """

    general: ClassVar[bool] = True

    path: str
    size: int | tuple[int, int] | None = None
    resize: Resize = "crop"
    channels: Channels | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing.

        Raises:
            ValueError: a size below 1, or an unknown `resize` or `channels`.
        """
        size = self._size()
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"size is a number of pixels, or two, height and width; given {self.size!r}")
        if self.resize not in get_args(Resize):
            raise ValueError(f"resize must be one of {', '.join(get_args(Resize))}; given {self.resize!r}")
        if self.channels not in (None, *get_args(Channels)):
            raise ValueError(f"channels must be 1, 3 or 4; given {self.channels!r}")

    def _size(self) -> tuple[int, int] | None:
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def load(self) -> Examples:
        """The images, from the cache when nothing has changed.

        Raises:
            ValueError: there is no image or no undamaged one, some are in sub-folders and some are
                not, they have several sizes and `size` does not say which one to use, or something is wrong with
                captions or attributes and `strict` forbids it.
        """
        root = Path(self.path).expanduser().resolve()
        found, left_out = scan(root)
        if not found:
            also = f" ({left_out[0].path} was left out: {left_out[0].reason})" if left_out else ""
            raise ValueError(f"there are no images in {root}{also}")
        labels, classes = _label(root, found)
        key = self._key(root, found)
        decoded = cache.read(key) or cache.build(key, lambda: self._rows(root, found), len(found))
        kept = list(decoded.kept)
        damaged = [Skipped(found[i].path, why) for i, why in sorted(decoded.skipped.items())]
        skipped = tuple(sorted([*left_out, *damaged], key=lambda s: s.path))
        if skipped:
            _warn(root, skipped, len(found) + len(left_out))
        sources = tuple(found[i].path for i in kept)
        of = told(root, sources, [s.path for s in skipped])
        judged(of.troubles, root, self.strict)
        return Examples(
            items=decoded.items,
            labels=None if labels is None else labels[kept],
            classes=classes,
            image=True,
            skipped=skipped,
            sources=sources,
            texts=of.texts,
            attributes=of.attributes,
            troubles=of.troubles + of.left_out,
        )

    @classmethod
    def opens(cls, path: Path) -> Folder | None:
        """A folder with an image somewhere below it."""
        return cls(str(path)) if path.is_dir() and scan(path.resolve())[0] else None

    def _key(self, root: Path, found: Sequence[Found]) -> str:
        """Names the cache entry: the same folder, files, sizes, times of change and settings."""
        digest = hashlib.sha256()
        for part in (cache.VERSION, root, self._size(), self.resize, self.channels, *found):
            digest.update(repr(part).encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    def _rows(self, root: Path, found: Sequence[Found]) -> cache.Rows:
        """Pixels of every file, or why there are none, in order; a few batches are decoded ahead."""
        workers = min(16, _processors())
        shape: tuple[int, ...] = ()
        worst = None
        with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
            from PIL import Image

            warnings.simplefilter("error", Image.DecompressionBombWarning)
            for start in range(0, len(found), 32 * workers):
                batch = found[start : start + 32 * workers]
                for row in pool.map(self._decode, itertools.repeat(root), batch):
                    if isinstance(row, Skipped):
                        worst = worst or row
                    elif shape and row.shape[1:] != shape:
                        raise ValueError(_several_sizes(root, found))
                    else:
                        shape = row.shape[1:]
                    yield row
        if not shape and worst:
            raise ValueError(f"none of the {len(found)} images in {root} can be read; {worst.path}: {worst.reason}")

    def _decode(self, root: Path, file: Found) -> np.ndarray | Skipped:
        path = root / file.path
        try:
            return decode(path, self._size(), self.resize, self.channels)
        except Exception as error:  # pillow's readers raise anything on a damaged file
            return Skipped(printable(file.path), reason(error, path))


def _processors() -> int:
    """How many this process may use; not every system can say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def scan(root: Path) -> tuple[list[Found], list[Skipped]]:
    """The image files below `root`, by their names, and what was left out on the way.

    Args:
        root: a folder, without links in its own path.

    Raises:
        ValueError: there is no such folder.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    found, left_out, waiting = [], [], [root]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            left_out.append(Skipped(printable(folder.relative_to(root).as_posix()), str(error.strerror)))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            image = path.suffix.lower() in formats()
            if entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            elif image or (entry.is_symlink() and path.is_dir()):
                why = _refusal(entry, root)
                if why:
                    left_out.append(Skipped(printable(name), why))
                else:
                    status = path.stat()
                    found.append(Found(name, status.st_size, status.st_mtime_ns))
    return sorted(found, key=lambda f: f.path), sorted(left_out, key=lambda s: s.path)


def _refusal(entry: os.DirEntry[str], root: Path) -> str:
    """Why an entry, named as an image or a link to a folder, is not opened; empty if it may be."""
    if entry.is_symlink():
        target = Path(os.path.realpath(entry.path))
        if not target.is_relative_to(root):
            return "a link that leads out of the folder"
        if target.is_dir():
            return "a link to a folder; its images are found where they are"
        if not target.exists():
            return "a link to nothing"
    return "" if entry.is_file() else "not a regular file"


def _label(root: Path, found: Sequence[Found]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Class of every file by its first sub-folder."""
    parts = [PurePosixPath(file.path).parts for file in found]
    loose = [p[0] for p in parts if len(p) == 1]
    if len(loose) == len(parts):
        return None, ()
    if loose:
        raise ValueError(
            f"{root} has {len(parts) - len(loose)} images in sub-folders, which name their classes, and "
            f"{len(loose)} outside them, such as {printable(loose[0])}; put all in sub-folders or none"
        )
    names = sorted({p[0] for p in parts})
    labels = np.array([names.index(p[0]) for p in parts], np.int64)
    return labels, tuple(map(printable, names))


def _several_sizes(root: Path, found: Sequence[Found]) -> str:
    sizes: Counter[tuple[int, int]] = Counter()
    for file in found:
        try:
            sizes[image_size(root / file.path)] += 1
        except Exception:  # damaged files have no size; the load that follows will name them
            continue
    listed = ", ".join(f"{w} x {h} ({n})" for (w, h), n in sizes.most_common(4))
    more = f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""
    return (
        f"the images in {root} have several sizes (width x height): {listed}{more}; write the size to use, "
        "such as data.size=64 data.resize=crop (or pad, or stretch)"
    )


def _warn(root: Path, skipped: Sequence[Skipped], count: int) -> None:
    listed = "; ".join(f"{s.path}: {s.reason}" for s in skipped[:5])
    more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
    log.warning("skipped %d of %d images in %s (%s%s)", len(skipped), count, root, listed, more)
