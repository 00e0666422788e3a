"""Numbers of many examples that take long to compute, on the disk, so that they are computed once.

`<key>.npy` holds them and `<key>.json`, written last, a checksum; without both, or where they do not fit, they count as
absent. What they are of must be all in the key, so that none is ever stale.

Letters in shapes: N examples, ... the numbers of one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from reverie.files import atomic, write_json

CHUNK = 256
"""Examples that are computed before they are written."""

log = logging.getLogger("reverie")


def folder(name: str) -> Path:
    """$REVERIE_CACHE/NAME, by default ~/.cache/reverie/NAME."""
    return Path(os.environ.get("REVERIE_CACHE") or Path.home() / ".cache" / "reverie") / name


def key_of(items: np.ndarray, about: str) -> str:
    """A hash of every example (N, ...), and of what is done to it, in words."""
    found = hashlib.sha256(f"{about} {items.shape} {items.dtype}".encode())
    for first in range(0, len(items), CHUNK):
        found.update(np.ascontiguousarray(items[first : first + CHUNK]).data)
    return found.hexdigest()[:32]


def kept(path: Path, shape: tuple[int, ...], part: Callable[[slice], np.ndarray], what: str) -> np.ndarray:
    """(N, ...) float32, mapped from the disk; computed where they are not there, and kept if the disk will have them.

    Args:
        path: of the .npy file.
        shape: (N, ...).
        part: computes some of the N.
        what: they are, in words.
    """
    found = _read(path, what)
    if found is not None:
        return found
    log.info("computing the %s of %d examples", what, shape[0])
    asked = _Asked(part)
    try:
        return _written(path, shape, asked)
    except OSError as error:
        if asked.failed:  # no fault of the disk that they were to be kept on
            raise
        log.warning("the %s cannot be kept in %s (%s); they will be computed again", what, path.parent, error)
    made = np.empty(shape, np.float32)
    for rows in _parts(shape[0]):
        made[rows] = part(rows)
    return made


class _Asked:
    """What computes a part, and whether it failed."""

    def __init__(self, part: Callable[[slice], np.ndarray]) -> None:
        self._part, self.failed = part, False

    def __call__(self, rows: slice) -> np.ndarray:
        self.failed = True
        made = self._part(rows)
        self.failed = False
        return made


def _parts(n: int) -> list[slice]:
    return [slice(first, min(first + CHUNK, n)) for first in range(0, n, CHUNK)]


def _written(path: Path, shape: tuple[int, ...], part: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Part by part, so that they need not fit into memory."""
    with atomic(path) as temp:
        with temp.open("wb") as file:
            about = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, about)
            for rows in _parts(shape[0]):
                file.write(np.ascontiguousarray(part(rows), "<f4").data)
        found: np.ndarray = np.load(temp, mmap_mode="r", allow_pickle=False)
    write_json(path.with_suffix(".json"), {"crc32": _checksum(found), "shape": list(shape)})
    return found


def _read(path: Path, what: str) -> np.ndarray | None:
    """What was written to `path`; None where it is absent or damaged."""
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        items: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        fits = items.dtype == np.float32 and list(items.shape) == note["shape"]
        if fits and _checksum(items) == note["crc32"]:
            return items
        log.warning("%s is damaged; its %s are computed again", path, what)
    except FileNotFoundError:
        pass
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        log.warning("%s cannot be read; its %s are computed again", path, what)
    return None


def _checksum(items: np.ndarray) -> int:
    found = 0
    for rows in _parts(len(items)):
        found = zlib.crc32(np.ascontiguousarray(items[rows]).data, found)
    return found
