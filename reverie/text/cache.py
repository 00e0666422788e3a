"""States of texts on the disk, so that a frozen network reads a text once.

`$REVERIE_CACHE/text/<key>/` has a few files, each with many texts: tokens one below the other in float16, without
padding. A file is written whole or not at all and never changed, so that several processes may add theirs; it is
named after the texts in it, so that those who add the same end with one. The texts themselves are not written.

Letters in shapes: K texts of a piece, T tokens of all of them, E width of a token, D numbers of a text as a whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from reverie.files import atomic

LARGEST = torch.finfo(torch.float16).max
VERSION = "1"

log = logging.getLogger("reverie")


def folder() -> Path:
    """$REVERIE_CACHE/text, by default ~/.cache/reverie/text."""
    return Path(os.environ.get("REVERIE_CACHE") or Path.home() / ".cache" / "reverie") / "text"


def halved(x: Tensor) -> Tensor:
    """`x` in float16 on the CPU; what is beyond its range becomes the end of it."""
    return x.clamp(-LARGEST, LARGEST).to("cpu", torch.float16)


def key_of(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return hashlib.sha256(text.encode()).digest()[:16]


@dataclass(frozen=True, eq=False)
class Piece:
    """K texts that were read together.

    Attributes:
        keys: (K, 16) uint8, `key_of` each.
        ends: (K + 1,) int64: the tokens of text k are `states[ends[k]:ends[k + 1]]`.
        states: (T, E) float16.
        pooled: (K, D) float16; D may be 0.
        sums: (K,) int64, a checksum of the states and the pooled vector of each.
    """

    keys: Tensor
    ends: Tensor
    states: Tensor
    pooled: Tensor
    sums: Tensor
    found: dict[bytes, int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, texts: Sequence[str], states: Sequence[Tensor], pooled: Tensor) -> Piece:
        """Of texts with the states (l, E) of each and their pooled vectors (K, D), all in float16."""
        keys = torch.frombuffer(bytearray(b"".join(map(key_of, texts))), dtype=torch.uint8).reshape(-1, 16)
        ends = torch.tensor([0, *np.cumsum([len(each) for each in states])], dtype=torch.int64)
        piece = cls(keys, ends, torch.cat(list(states)), pooled, torch.zeros(len(texts), dtype=torch.int64))
        return cls(keys, ends, piece.states, pooled, torch.tensor([piece.sum(k) for k in range(len(texts))])).indexed()

    def indexed(self) -> Piece:
        """The same, with the place of each text by its key."""
        raw = self.keys.numpy().tobytes()
        self.found.update({raw[16 * k : 16 * k + 16]: k for k in range(len(self.keys))})
        return self

    def sum(self, k: int) -> int:
        """The checksum of what is held of text k."""
        start, stop = self.ends[k : k + 2].tolist()
        return zlib.crc32(_bytes(self.pooled[k]), zlib.crc32(_bytes(self.states[start:stop])))

    def whole(self, k: int) -> bool:
        """Whether text k is as it was written."""
        return self.sum(k) == int(self.sums[k])

    def tensors(self) -> dict[str, Tensor]:
        """All but the index, by name."""
        return {name: getattr(self, name) for name in ("keys", "ends", "states", "pooled", "sums")}


def _bytes(x: Tensor) -> memoryview:
    raw: memoryview = x.contiguous().view(torch.uint8).numpy().reshape(-1).data
    return raw


def _outline(piece: Piece) -> str:
    """A hash of which texts there are, where they lie and how many numbers each has."""
    found = hashlib.sha256(str((tuple(piece.states.shape), tuple(piece.pooled.shape))).encode())
    for each in (piece.keys, piece.ends, piece.sums):
        found.update(_bytes(each))
    return found.hexdigest()


class Store:
    """What one encoder made of texts.

    Args:
        key: stands for the encoder and its settings; another one has another key.
        width: E.
        pooled: D.
    """

    def __init__(self, key: str, width: int, pooled: int) -> None:
        self.folder, self.width, self.pooled = folder() / key, width, pooled

    def find(self, texts: Iterable[str]) -> dict[str, tuple[Piece, int]]:
        """Those of the texts that are held, each with its piece and its place there, mapped from the disk."""
        missing = {key_of(text): text for text in texts}
        found: dict[str, tuple[Piece, int]] = {}
        for path in self._files() if missing else ():
            piece, damaged = self._read(path), 0
            if piece is None:
                continue
            for key in missing.keys() & piece.found.keys():
                if piece.whole(k := piece.found[key]):
                    found[missing.pop(key)] = (piece, k)
                else:
                    damaged += 1
            if damaged:
                log.warning("%d texts in the cache %s are damaged; they are read again", damaged, path)
        return found

    def add(self, piece: Piece) -> Piece:
        """Keep a piece, and give it back mapped from the disk; in memory where the disk will not have it."""
        from safetensors.torch import save

        path = self.folder / f"{hashlib.sha256(_bytes(piece.keys)).hexdigest()[:24]}.safetensors"
        try:
            with atomic(path) as temp:
                temp.write_bytes(save(piece.tensors(), {"version": VERSION, "outline": _outline(piece)}))
            return self._read(path) or piece
        except OSError as error:
            log.warning("texts cannot be kept in %s (%s); they are held in memory", self.folder, error)
            return piece

    def _files(self) -> list[Path]:
        """The newest first: it has what was damaged in an older one."""
        with contextlib.suppress(OSError):
            known = [path for path in self.folder.iterdir() if path.suffix == ".safetensors" and path.name[0] != "."]
            return sorted(known, key=lambda path: (-path.stat().st_mtime_ns, path.name))
        return []

    def _read(self, path: Path) -> Piece | None:
        """A file, mapped; None where it is damaged, or gone, or of another version."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                said = dict(file.metadata() or {})
                piece = Piece(**{name: file.get_tensor(name) for name in ("keys", "ends", "states", "pooled", "sums")})
            if said.get("version") != VERSION or said.get("outline") != _outline(piece):
                raise ValueError("its outline differs")
            if (piece.states.shape[1], piece.pooled.shape[1]) != (self.width, self.pooled):
                raise ValueError(f"it holds {tuple(piece.states.shape)} and {tuple(piece.pooled.shape)}")
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError, IndexError) as error:
            log.warning("the cache %s is damaged (%s); its texts are read again", path, error)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return piece.indexed()
