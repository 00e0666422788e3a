"""Which of several captions is the most similar to an image.

Every image is compared with the same number of different captions, its own among them: captions stand in blocks of
that many, the last block filled up from the beginning. So an image whose caption others have too is compared with
it once, and a guess is right in 1 of `among` cases.

Letters in shapes: N images, K different captions, E numbers of one embedding, G captions in a block.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MANY = 2000
"""Images that suffice to tell which captions are taken for any image."""


@dataclass(frozen=True, eq=False)
class Places:
    """How an image's own caption fares among G captions.

    Attributes:
        above: (N,) int64, how many others are more similar to the image.
        level: (N,) int64, how many others are exactly as similar.
        blind: the share of first places that is expected when the captions are dealt to the images at random.
    """

    above: np.ndarray
    level: np.ndarray
    blind: float

    def within(self, k: int) -> np.ndarray:
        """(N,), the chance that the own caption is one of the first k, those as similar being in random order.

        It is 0 or 1 but for ties, so that a pair that sees no difference is right as often as a guess.
        """
        return np.clip((k - self.above) / (self.level + 1), 0.0, 1.0)


def places(images: np.ndarray, texts: np.ndarray, own: np.ndarray, among: int) -> Places:
    """Where the own caption of every image stands.

    Args:
        images: (N, E), in random order: the first of them stand for all in `blind`.
        texts: (K, E), of captions that differ; blocks are made of neighbours.
        own: (N,) int64, the caption of each image.
        among: G, from 1 to K.
    """
    assert 1 <= among <= len(texts)
    above, level = np.zeros(len(images), np.int64), np.zeros(len(images), np.int64)
    dealt: list[float] = []
    for rows, candidates in _blocks(own, len(texts), among):
        similar = images[rows] @ texts[candidates].T
        mine = similar[np.arange(len(rows)), own[rows] - candidates[0]][:, None]
        above[rows], level[rows] = (similar > mine).sum(1), (similar == mine).sum(1) - 1
        similar = images[:MANY] @ texts[candidates].T
        first = similar == similar.max(1, keepdims=True)
        chosen = (first / first.sum(1, keepdims=True)).mean(0)
        dealt.append(float(np.bincount(own[rows] - candidates[0], minlength=among) @ chosen))
    return Places(above, level, math.fsum(dealt) / len(images))


def _blocks(own: np.ndarray, count: int, among: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of images, and the captions (G,) that each of them is compared with, their own first."""
    for start in range(0, count, among):
        rows = np.flatnonzero((own >= start) & (own < start + among))
        if len(rows):
            yield rows, np.arange(start, start + among) % count
