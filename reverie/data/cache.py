"""Decoded images on the disk, so that decoding is done once.

`<key>.npy` holds the images and `<key>.json`, written last, which rows those are, what was skipped
and a checksum. Without both, or when they do not fit, the cache counts as absent.

Letters in shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from reverie.data.base import Skipped
from reverie.files import atomic, write_json

VERSION = 1
"""Part of every key; raise it when the same files would decode to other pixels."""

HEADER = 128
"""Bytes before the numbers of a .npy file; numpy leaves room in them for N to change."""

log = logging.getLogger("reverie")


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images (N, C, H, W) uint8; which of the files they are; the files that were skipped, by index."""

    items: np.ndarray
    kept: tuple[int, ...]
    skipped: dict[int, str]


Rows = Iterator[np.ndarray | Skipped]
"""One entry a file: its pixels (C, H, W) uint8, or why there are none. C may vary."""


def folder() -> Path:
    """$REVERIE_CACHE/images, by default ~/.cache/reverie/images."""
    return Path(os.environ.get("REVERIE_CACHE") or Path.home() / ".cache" / "reverie") / "images"


def read(key: str) -> Decoded | None:
    """What `build` stored under `key`, memory-mapped; None when it is absent or damaged."""
    path = folder() / f"{key}.npy"
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if _checksum(path) != note["crc32"]:
            raise ValueError("the checksum differs")
        items = np.load(path, mmap_mode="r", allow_pickle=False)
        kept, skipped = tuple(map(int, note["kept"])), {int(k): str(v) for k, v in note["skipped"].items()}
        if items.ndim != 4 or items.dtype != np.uint8 or len(items) != len(kept):
            raise ValueError(f"it holds {items.dtype} {items.shape} for {len(kept)} images")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("the image cache %s is damaged (%s); it is built again", path, error)
        return None
    return Decoded(items, kept, skipped)


def build(key: str, rows: Callable[[], Rows], count: int) -> Decoded:
    """Decode, keep the result under `key`, and map it; in memory when the disk will not have it.

    Args:
        key: name of the cache entry.
        rows: starts the decoding of all files; called a second time only when writing failed.
        count: how many entries `rows` yields.

    Raises:
        ValueError: what `rows` raises.
    """
    path = folder() / f"{key}.npy"
    try:
        with atomic(path) as temp, temp.open("r+b") as file:
            shape, kept, skipped = _collect(file, rows(), count, shutil.disk_usage(path.parent).free)
            file.seek(0)
            _write_header(file, (len(kept), *shape))
        write_json(path.with_suffix(".json"), {"crc32": _checksum(path), "kept": kept, "skipped": skipped})
        return Decoded(np.load(path, mmap_mode="r"), tuple(kept), skipped)
    except OSError as error:
        log.warning("decoded images cannot be kept in %s (%s); they are held in memory", path.parent, error)
    buffer = io.BytesIO()
    shape, kept, skipped = _collect(buffer, rows(), count, None)
    items = np.frombuffer(buffer.getbuffer(), np.uint8, offset=HEADER).reshape(len(kept), *shape)
    items.flags.writeable = False
    return Decoded(items, tuple(kept), skipped)


def _collect(
    file: BinaryIO, rows: Rows, count: int, room: int | None
) -> tuple[tuple[int, ...], list[int], dict[int, str]]:
    """Append every row, all with the most channels that any has; the shape of one, who is in, who is not."""
    file.write(bytes(HEADER))
    shape: tuple[int, ...] = ()
    kept: list[int] = []
    skipped: dict[int, str] = {}
    for index, row in enumerate(rows):
        if isinstance(row, Skipped):
            skipped[index] = row.reason
            continue
        if not shape:
            shape = row.shape
            if room is not None and row.nbytes * count > room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if len(row) > shape[0]:
            _widen(file, len(kept), shape, len(row))
            shape = row.shape
        file.write(with_channels(row, shape[0]).tobytes())
        kept.append(index)
    return shape, kept, skipped


def _widen(file: BinaryIO, rows: int, shape: tuple[int, ...], channels: int) -> None:
    """Give the rows written so far more channels, in place: the last first, or it would be overwritten."""
    size = int(np.prod(shape))
    for index in reversed(range(rows)):
        file.seek(HEADER + index * size)
        row = np.frombuffer(file.read(size), np.uint8).reshape(shape)
        file.seek(HEADER + index * size // shape[0] * channels)
        file.write(with_channels(row, channels).tobytes())
    file.seek(HEADER + rows * size // shape[0] * channels)


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """The same picture (C, H, W) with at least as many channels: grey repeated, alpha 255."""
    if len(image) == 1 and channels > 1:
        image = np.repeat(image, 3, axis=0)
    if len(image) < channels:
        image = np.concatenate([image, np.full_like(image[:1], 255)])
    return image


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    assert file.tell() == HEADER


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value
