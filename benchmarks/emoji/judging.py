"""What judges pictures of emoji: a pair that finds their captions, and what tells category and style.

Both learn from real pictures of the training split that are asked for nowhere, in features of EfficientNet-Lite0 and
of MiniLM; a model that is judged has seen neither of them.

The network was trained on photographs, and sees little of how flat or how shaded a small picture is: what tells
category and style has colours and edges beside its features.

Letters in shapes: N pictures, K captions, F features of a picture, D of a text, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reverie.data import Attribute, Examples
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import EfficientNetLite0
from reverie.evaluation.extractors.base import Opened
from reverie.evaluation.extractors.embedding import embed
from reverie.evaluation.pairs.correlation import Projection, correlated
from reverie.evaluation.pairs.ranking import places
from reverie.evaluation.pairs.words import MiniLM, OpenedWords
from reverie.evaluation.remembered import remembered
from reverie.evaluation.team import Team

RIDGE = 1.0
STRENGTH = 3e-3
"""Inverse strength of the classifiers' ridge, in standardized features."""
TOLD = ("category", "style")


@dataclass(frozen=True)
class Rate:
    """How often something is so.

    Attributes:
        share: of the pictures.
        error: its standard error.
        chance: the share that a guess is right in: of the captions, or always the commonest kind.
    """

    share: float
    error: float
    chance: float


def rate(right: np.ndarray, chance: float) -> Rate:
    """Of (N,) numbers in [0, 1].

    >>> rate(np.array([1.0, 0.0, 0.0, 1.0]), 0.1)
    Rate(share=0.5, error=0.25, chance=0.1)
    """
    share = float(right.mean())
    return Rate(share, math.sqrt(share * (1 - share) / len(right)), chance)


@dataclass(frozen=True, eq=False)
class Judge:
    """A pair and the classifiers.

    Attributes:
        seeing: the image network.
        reading: the text network.
        image: from its features to the space of the pair.
        text: from its features to the same space.
        tells: attribute to what makes (N,) numbers of classes out of features (N, F) and the pictures' `plain` ones.
        learnt_from: how many pictures.
    """

    seeing: Opened
    reading: OpenedWords
    image: Projection
    text: Projection
    tells: dict[str, Callable[[np.ndarray], np.ndarray]]
    learnt_from: int

    def features(self, pictures: np.ndarray) -> np.ndarray:
        """(N, F) of pictures (N, C, H, W) uint8."""
        return embed(self.seeing, pictures, Team()).values

    def found(self, features: np.ndarray, captions: Sequence[str]) -> np.ndarray:
        """(N,), whether the caption of each picture, all of which differ, is the most similar of them."""
        assert len(set(captions)) == len(captions) == len(features)
        texts = _unit(_mapped(_read(self.reading, captions), self.text))
        return places(_unit(_mapped(features, self.image)), texts, np.arange(len(texts)), len(texts)).within(1)


def learnt(examples: Examples, rows: np.ndarray) -> Judge:
    """The judge that learns from some examples, whose features are remembered."""
    some = Collection(examples.items[rows], True, "the real emoji that the judge learns from")
    extractor, team, device = EfficientNetLite0(), Team(), torch.device("cpu")
    seeing, reading = extractor.open(some), MiniLM().open()
    values = remembered(
        extractor, seeing, some, team, device, lambda: embed(seeing, some.items, team)
    ).values  # fmt: skip
    captions = sorted({examples.texts[row] for row in rows})
    own = np.array([captions.index(examples.texts[row]) for row in rows])
    maps = correlated(values, _read(reading, captions)[own], RIDGE)
    both = np.concatenate([values, plain(some.items)], 1)
    tells = {name: _classifier(both, attribute(examples, name).values[rows]) for name in TOLD}
    return Judge(seeing, reading, *maps, tells, len(rows))


def attribute(examples: Examples, name: str) -> Attribute:
    """The attribute of that name."""
    return next(each for each in examples.attributes if each.name == name)


def judged(judge: Judge, examples: Examples, rows: np.ndarray, pictures: np.ndarray) -> dict[str, Rate]:
    """How often pictures are what rows of examples were, each beside what a guess would reach.

    Args:
        judge: which has learnt from none of these rows.
        examples: real ones, with captions and attributes.
        rows: (N,) of different captions, those of one caption an emoji first.
        pictures: (N, C, H, W) uint8, made for these captions, or the rows' own.
    """
    features = judge.features(pictures)
    captions = [examples.texts[row] for row in rows]
    found = {f"caption of {len(rows)}": rate(judge.found(features, captions), 1 / len(rows))}
    assert examples.related is not None
    first = np.sort(np.unique(examples.related[rows], return_index=True)[1])
    if len(first) < len(rows):
        few = judge.found(features[first], [captions[place] for place in first])
        found[f"caption of {len(first)}, one an emoji"] = rate(few, 1 / len(first))
    both = np.concatenate([features, plain(pictures)], 1)
    for name in TOLD:
        asked = attribute(examples, name).values[rows]
        right = (judge.tells[name](both) == asked).astype(float)
        found[f"{name} as asked"] = rate(right, float(np.bincount(asked[asked >= 0]).max() / len(asked)))
    return found


def plain(pictures: np.ndarray) -> np.ndarray:
    """Colours and edges of pictures (N, 3, H, W) uint8, H and W multiples of 8, in 818 numbers each.

    They are quantiles of the size of differences between neighbours and of each colour, the roots of the counts of
    512 colours, how many different ones of 32,768 there are, and the picture in 8x8 pixels.
    """
    n, (h, w) = len(pictures), pictures.shape[2:]
    x = pictures.astype(np.float32) / 255
    grey = x.mean(1)
    steps = [np.abs(np.diff(grey, axis=axis)).reshape(n, -1) for axis in (1, 2)]
    edges = [np.quantile(step, np.linspace(0.05, 0.95, 19), axis=1).T for step in steps]
    colours = [np.quantile(x[:, c].reshape(n, -1), np.linspace(0.02, 0.98, 25), axis=1).T for c in range(3)]
    coarse = (pictures >> 5).astype(np.int64)
    kinds = (coarse[:, 0] * 64 + coarse[:, 1] * 8 + coarse[:, 2]).reshape(n, -1)
    counts = np.stack([np.bincount(row, minlength=512) for row in kinds])
    fine = (pictures >> 3).astype(np.int64)
    fine = (fine[:, 0] * 1024 + fine[:, 1] * 32 + fine[:, 2]).reshape(n, -1)
    different = np.array([[len(np.unique(row))] for row in fine])
    small = x.reshape(n, 3, 8, h // 8, 8, w // 8).mean((3, 5)).reshape(n, -1)
    return np.concatenate([*edges, *colours, np.sqrt(counts), different, small], 1)


def _classifier(values: np.ndarray, classes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Logistic regression, of those whose class is known."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = classes >= 0
    model: Any = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=500))
    return model.fit(values[known], classes[known]).predict


def _read(reading: OpenedWords, captions: Sequence[str]) -> np.ndarray:
    with torch.inference_mode():
        parts = [reading.texts(captions[i : i + 32]).double().numpy() for i in range(0, len(captions), 32)]
    return np.concatenate(parts)


def _mapped(x: np.ndarray, by: Projection) -> np.ndarray:
    return (x - by.mean) @ by.matrix


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(float).tiny)
