"""A pair that is learnt from the user's own captioned images, where no CLIP is at hand.

Letters in shapes: N pairs, B batch, F features of an image, D of a text, E numbers of one embedding.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from reverie import config
from reverie.config import Plain
from reverie.data import cache as images
from reverie.data import groups
from reverie.digests import digest
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Opened
from reverie.evaluation.extractors.efficientnet import EfficientNetLite0
from reverie.evaluation.extractors.embedding import embed
from reverie.evaluation.pairs.base import OpenedPair, Pair, unit
from reverie.evaluation.pairs.correlation import Projection, correlated
from reverie.evaluation.pairs.embedding import dealt, in_blocks, shuffled
from reverie.evaluation.pairs.ranking import places
from reverie.evaluation.pairs.words import MiniLM, OpenedWords, Words
from reverie.evaluation.team import Team, one_thread
from reverie.tensor_files import read_with_metadata, write_tensors

VERSION = 1
"""Part of every key of the cache; raise it when the same data and settings would give other weights."""
HELD_BACK = 0.2
"""Share of the pairs on which it is tested."""
LEAST = 50
"""Pairs without which nothing is learnt."""
FEW = 100
"""With fewer different captions than these they are names of classes, and all are learnt."""
AMONG = 300
"""Captions among which the right one is looked for in the test."""

log = logging.getLogger("reverie")


@dataclass(frozen=True)
class Trained(Pair, kind="trained"):
    """Linear maps of an image network's features and of a text network's into one space, learnt from captioned images.

    Both networks stay as they are; the maps are those of `reverie.evaluation.pairs.correlation`. A part of the
    pairs is held back, and how often it finds the right caption there stands beside every number.

    Attributes:
        images: the image network.
        texts: the text network.
        ridge: strength of the ridge, above 0.
        most: pairs that are learnt from and tested on, at the most.

    Raises:
        ValueError: a number out of its range.
    """

    learns: ClassVar[bool] = True

    images: Extractor = field(default_factory=EfficientNetLite0)
    texts: Words = field(default_factory=MiniLM)
    ridge: float = 1.0
    most: int = 5000

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise ValueError(f"trained.ridge must be above 0; given {self.ridge}")
        if self.most < LEAST:
            raise ValueError(f"trained.most must be at least {LEAST}; given {self.most}")

    def open(self, real: Collection, device: torch.device | str = "cpu") -> OpenedPair:
        """Both networks, and the maps from the cache or learnt."""
        _refuse(real)
        seeing, reading = self.images.open(real, device), self.texts.open(device)
        path = folder() / f"{self._key(real, seeing, reading)}.safetensors"
        kept = _read(path)
        if kept is None:
            kept = _learnt(real, self, seeing, reading, device)
            _keep(path, *kept)
        maps, found = kept
        about = {
            "images": {**config.to_data(self.images), "digest": seeing.digest, **seeing.about},
            "texts": {**config.to_data(self.texts), "digest": reading.digest},
            "ridge": self.ridge,
            **found,
        }
        return _Trained(seeing, reading, maps, about).to(device)

    def _key(self, real: Collection, seeing: Opened, reading: OpenedWords) -> str:
        settings = [VERSION, torch.__version__, config.to_data(self), seeing.digest, seeing.about, reading.digest]
        return hashlib.sha256(
            f"{real.digest} {real.captions_digest} {json.dumps(settings, sort_keys=True)}".encode()
        ).hexdigest()[:24]


def _refuse(real: Collection) -> None:
    if not real.image:
        raise ValueError(f"captions are compared with images, and {real.source} holds arrays")
    if not real.captions:
        raise ValueError(
            f"the pair trained learns from real images with captions, and {real.source} has none; put metadata.jsonl "
            "with file_name and text beside the images, or give the folder of a CLIP model"
        )
    if len(real) < LEAST or len(set(real.captions)) < 2:
        raise ValueError(
            f"the pair trained learns from {LEAST} captioned images at least, and 2 different captions; {real.source} "
            f"has {len(real)} and {len(set(real.captions))}"
        )


class _Trained(OpenedPair):
    def __init__(self, seeing: Opened, reading: OpenedWords, maps: dict[str, Tensor], about: dict[str, Plain]) -> None:
        whole = f"{seeing.digest} {reading.digest} {digest(maps)}"
        super().__init__(hashlib.sha256(whole.encode()).hexdigest()[:16], about)
        self.seeing, self.reading = seeing, reading
        for name, values in maps.items():
            self.register_buffer(name, values)
        self.eval().requires_grad_(False)

    def images(self, items: Tensor) -> Tensor:
        return self._mapped(self.seeing(items), "image")

    def texts(self, texts: Sequence[str]) -> Tensor:
        return self._mapped(self.reading.texts(texts), "text")

    def _mapped(self, x: Tensor, what: str) -> Tensor:
        mean, matrix = self.get_buffer(f"{what}_mean"), self.get_buffer(f"{what}_matrix")
        return unit((x.to(mean) - mean) @ matrix)


# -------------------------------------------------------------------------------------------- learning


def _learnt(
    real: Collection, settings: Trained, seeing: Opened, reading: OpenedWords, device: torch.device | str
) -> tuple[dict[str, Tensor], dict[str, Plain]]:
    """The maps, and what the protocol should say of how they were learnt."""
    some = real.take(shuffled(real)[: settings.most])
    texts = dealt(some.captions)
    numbers = {text: number for number, text in enumerate(texts)}
    own = np.array([numbers[text] for text in some.captions])
    team = Team()  # each process learns for itself: one of them may find the maps in its cache
    a = embed(seeing, some.items, team, device).values
    b = in_blocks(reading.texts, [texts[i : i + 32] for i in range(0, len(texts), 32)], team, device)
    with one_thread():
        few = len(texts) < FEW
        held_back = _held_back(some, own, few)
        learnt = np.setdiff1d(np.arange(len(some)), held_back)
        try:
            maps = correlated(a[learnt], b[own[learnt]], settings.ridge)
        except ValueError as error:
            raise ValueError(f"nothing can be learnt from the captions of {real.source}: {error}") from None
        about = _tested(maps, a[held_back], b, own[held_back])
    about = {"learnt_from": len(learnt), "of": len(real), **about, "held_back": "images" if few else "images, captions"}
    return _tensors(maps), about


def _held_back(some: Collection, own: np.ndarray, few: bool) -> np.ndarray:
    """Rows to test on: no image of theirs, and unless they are few no caption of theirs, is among the others.

    Raises:
        ValueError: too many are the same for that.
    """
    group = groups(some.items)
    if not few:
        group = _joined(group, own)
    _, group, sizes = np.unique(group, return_inverse=True, return_counts=True)
    order = np.unique(group, return_index=True)[1].argsort()  # rows are in random order, so groups are
    room, taken = round(HELD_BACK * len(some)), []
    for number in order:
        if sizes[number] <= room:
            taken.append(number)
            room -= sizes[number]
    rows = np.flatnonzero(np.isin(group, taken))
    if len(np.unique(own[rows])) < 2:
        raise ValueError(
            f"too many images or captions of {some.source} are the same to hold some back for a test; give other ones"
        )
    return rows


def _joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A number for each row; equal for two that a chain of rows joins, neighbours being equal in one or other."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = int(one.max()) + 1
    edges = coo_matrix((np.ones(len(one)), (one, n + other)), shape=(n + int(other.max()) + 1,) * 2)
    return connected_components(edges, directed=False)[1][one]


def _tested(maps: tuple[Projection, Projection], a: np.ndarray, b: np.ndarray, own: np.ndarray) -> dict[str, Plain]:
    """How often the right caption is found, of those that are held back."""
    seen, own = np.unique(own, return_inverse=True)
    image, text = (_unit((x - p.mean) @ p.matrix) for x, p in zip((a, b[seen]), maps, strict=True))
    among = min(AMONG, len(seen))
    found = places(image, text, own, among)
    return {
        "tested_on": len(own), "among": among, "chance": round(1 / among, 4),
        "retrieval": round(float(found.within(1).mean()), 4), "recall_at_5": round(float(found.within(5).mean()), 4),
    }  # fmt: skip


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)


def _tensors(maps: tuple[Projection, Projection]) -> dict[str, Tensor]:
    found = {}
    for what, each in zip(("image", "text"), maps, strict=True):
        found[f"{what}_mean"] = torch.from_numpy(each.mean).float()
        found[f"{what}_matrix"] = torch.from_numpy(each.matrix).float()
    return found


# -------------------------------------------------------------------------------------------- on the disk


def folder() -> Path:
    """$REVERIE_CACHE/pairs, by default ~/.cache/reverie/pairs."""
    return images.folder().with_name("pairs")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Plain]] | None:
    """What `_keep` wrote; None when it is absent or damaged."""
    if not path.exists():
        return None
    try:
        maps, metadata = read_with_metadata(path)
        about: dict[str, Plain] = json.loads(metadata["about"])
    except (ValueError, KeyError, OSError) as error:
        log.warning("the image-text pair kept in %s is damaged (%s); it is learnt again", path, error)
        return None
    return maps, about


def _keep(path: Path, maps: dict[str, Tensor], about: dict[str, Plain]) -> None:
    try:
        write_tensors(path, maps, {"about": json.dumps(about), "sha256": digest(maps)})
    except OSError as error:
        log.warning("the image-text pair that was learnt cannot be kept in %s (%s)", path.parent, error)
