"""A small classifier of the user's own labelled data, for features that need no one else's weights.

Letters in shapes: N examples, B batch, K classes, ... one example.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from reverie import config
from reverie.config import Plain
from reverie.data import Examples, groups, split
from reverie.data import cache as images
from reverie.digests import digest
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Opened
from reverie.evaluation.extractors.learning import WIDTH, Net, drawn, train
from reverie.evaluation.team import one_thread
from reverie.tensor_files import read_with_metadata, write_tensors
from reverie.tensors import non_finite

VERSION = 1
"""Part of every key of the cache; raise it when the same data and settings would give other weights."""
HELD_BACK = 0.2
"""Share of the examples on which the accuracy is measured."""
SMALLEST = 8
"""Pixels that a side of a picture must have."""

log = logging.getLogger("reverie")


@dataclass(frozen=True)
class Classifier(Extractor, kind="classifier"):
    """A network of three convolutions, or of two layers for arrays, trained on the real examples and their labels.

    Features are its last layer but one. How well it tells classes apart, on examples held back from it, is told
    with the protocol. It is trained on one thread of the CPU, which gives the same bits every time, and kept in
    the cache.

    Raises:
        ValueError: a number out of its range.
    """

    image: ClassVar[bool | None] = None
    learns: ClassVar[bool] = True

    seed: int = 0
    most: int = 10_000
    """Examples that are learnt from, at the most."""
    seen: int = 40_000
    """Examples shown in training, over and over until as many."""

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("most", 2), ("seen", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} of the classifier must be at least {least}; given {getattr(self, name)}")

    @classmethod
    def suits(cls, real: Collection) -> bool:
        """Whether it can learn from these: labels of two classes or more, and no tiny pictures."""
        return not _misfit(real)

    def open(self, real: Collection, device: torch.device | str = "cpu") -> Opened:
        """Read it from the cache, or train it."""
        self.check(real)
        misfit = _misfit(real)
        if misfit:
            raise ValueError(f"no classifier can be trained on {real.source}: {misfit}")
        path = folder() / f"{self._key(real)}.safetensors"
        weights, about = _read(path) or self._made(real, path)
        return _Classifier(real, weights, about).to(device)

    def _key(self, real: Collection) -> str:
        settings = json.dumps([VERSION, torch.__version__, config.to_data(self), real.image], sort_keys=True)
        return hashlib.sha256(f"{real.digest} {settings}".encode()).hexdigest()[:24]

    def _made(self, real: Collection, path: Path) -> tuple[dict[str, Tensor], dict[str, Plain]]:
        """Trained, and kept if the disk will have it."""
        with one_thread():
            weights, about = self._trained(real)
        try:
            write_tensors(path, weights, {"sha256": digest(weights), "about": json.dumps(about)})
        except OSError as error:
            log.warning("the classifier cannot be kept in %s (%s); it will be trained again", path.parent, error)
        return weights, about

    def _trained(self, real: Collection) -> tuple[dict[str, Tensor], dict[str, Plain]]:
        learnt, held_back = self._parts(real)
        net = drawn(real.shape, real.image, len(real.classes), self.seed)
        (x, labels), (others, right) = (_prepared(net, real.take(rows)) for rows in (learnt, held_back))
        train(net, x, labels, self.seed, self.seen)
        with torch.inference_mode():
            found = torch.cat([net.told(part)[1].argmax(1) for part in others.split(256)])
        about = {
            "learnt_from": len(learnt),
            "held_back": len(held_back),
            "accuracy": round(float((found == right).double().mean()), 4),
        }
        return net.state_dict(), about

    def _parts(self, real: Collection) -> tuple[np.ndarray, np.ndarray]:
        """The rows that are learnt from, and those held back: of each class its share."""
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence((self.seed, len(real)))))
        rows = np.sort(random.permutation(len(real))[: round(self.most / (1 - HELD_BACK))])
        some = real.take(rows)
        if not groups(some.items).any():
            raise ValueError(f"no classifier can be trained on {real.source}: its examples are all the same")
        parts = split(Examples(some.items, some.labels, some.classes, some.image), HELD_BACK, self.seed)
        return rows[parts.train][: self.most], rows[parts.validation]


class _Classifier(Opened):
    block: ClassVar[int] = 256

    def __init__(self, real: Collection, weights: dict[str, Tensor], about: dict[str, Plain]) -> None:
        with torch.device("meta"):
            net = Net(real.shape, real.image, len(real.classes))
        net.load_state_dict(weights, assign=True)
        told = {**net.about(real.shape), "quantization": "none", **about}
        super().__init__(WIDTH, digest(weights)[:16], told, real.classes)
        self.net = net
        self.eval().requires_grad_(False)

    def both(self, items: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = self.net(items)
        return features, logits.cpu().double().softmax(1)


def folder() -> Path:
    """$REVERIE_CACHE/classifiers, by default ~/.cache/reverie/classifiers."""
    return images.folder().with_name("classifiers")


def _misfit(real: Collection) -> str:
    """Why nothing can be learnt from these, in words; empty if it can."""
    if real.labels is None:
        return "they have no labels"
    if len(np.unique(real.labels)) < 2:
        return f"all {len(real)} are of one class, and it takes two"
    if real.image and min(real.shape[1:]) < SMALLEST:
        height, width = real.shape[1:]
        return f"pictures of {height}x{width} pixels are too small; {SMALLEST}x{SMALLEST} would do"
    return ""


def _prepared(net: Net, some: Collection) -> tuple[Tensor, Tensor]:
    """Examples in the form that is learnt from, and their labels."""
    blocks = [slice(start, start + 256) for start in range(0, len(some), 256)]
    x = torch.cat([net.prepared(torch.from_numpy(np.ascontiguousarray(some.items[rows]))) for rows in blocks])
    found = non_finite(x)
    if found:
        raise ValueError(f"{some.source} holds numbers that are not finite ({found}); leave those examples out")
    return x, torch.from_numpy(some.labels)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Plain]] | None:
    """What `Classifier` kept; None when it is absent or damaged."""
    if not path.exists():
        return None
    try:
        weights, metadata = read_with_metadata(path)
        about: dict[str, Plain] = json.loads(metadata["about"])
    except (ValueError, KeyError, OSError) as error:
        log.warning("the classifier kept in %s is damaged (%s); it is trained again", path, error)
        return None
    return weights, about
