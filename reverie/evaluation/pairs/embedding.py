"""Images and captions of a collection in the space of a pair, the same whatever the order they come in.

Letters in shapes: N images, K different captions, E numbers of one embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from reverie.evaluation.collection import Collection
from reverie.evaluation.pairs.base import OpenedPair
from reverie.evaluation.team import Team

Block = TypeVar("Block")


@dataclass(frozen=True, eq=False)
class Embedded:
    """Unit vectors in float64.

    Attributes:
        images: (N, E), in an order that their pixels and captions decide.
        texts: (K, E) of different captions, in an order that they themselves decide.
        own: (N,) int64 in [0, K), the caption of each image.
    """

    images: np.ndarray
    texts: np.ndarray
    own: np.ndarray


def embedded(pair: OpenedPair, some: Collection, team: Team, device: torch.device | str) -> Embedded:
    """Every image and every caption of a captioned collection.

    Networks give other last bits in other batches, so batches are made of what is in them, not of their order.
    """
    order, texts = shuffled(some), dealt(some.captions)
    numbers = {text: number for number, text in enumerate(texts)}

    def image(rows: np.ndarray) -> Tensor:
        filled = np.concatenate([rows, np.full(pair.block - len(rows), rows[-1])])
        return pair.images(torch.from_numpy(some.items[filled]).to(device))[: len(rows)]

    own = np.array([numbers[some.captions[i]] for i in order])
    images = in_blocks(image, [order[i : i + pair.block] for i in range(0, len(order), pair.block)], team, device)
    written = in_blocks(pair.texts, [texts[i : i + pair.block] for i in range(0, len(texts), pair.block)], team, device)
    return Embedded(images, written, own)


def in_blocks(
    work: Callable[[Block], Tensor], blocks: Sequence[Block], team: Team, device: torch.device | str
) -> np.ndarray:
    """What a network makes of all blocks, one below the other, in float64."""

    def kept(block: Block) -> np.ndarray:
        with torch.inference_mode():
            return work(block).double().cpu().numpy()

    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        return np.concatenate(team.map(kept, blocks, device))


def shuffled(some: Collection) -> np.ndarray:
    """The rows of a captioned collection, ordered by a hash of pixels and caption: at random, always the same way."""
    keys = [
        blake2b(np.ascontiguousarray(item).tobytes() + text.encode(), digest_size=16).digest()
        for item, text in zip(some.items, some.captions, strict=True)
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def dealt(texts: Sequence[str]) -> list[str]:
    """The different ones among them, ordered by a hash: at random, always the same way."""
    return sorted(set(texts), key=lambda text: (blake2b(text.encode(), digest_size=16).digest(), text))
