"""Latents of a data set, computed once: see `reverie.kept`.

Their key is a hash of every example, of weights and settings of the autoencoder, and of what is done to the examples
first.

Letters in shapes: N examples, Z channels of latents, ... their axes of space.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from reverie import config
from reverie.data import Examples
from reverie.devices import usable
from reverie.digests import digest
from reverie.kept import folder as folder_of
from reverie.kept import kept, key_of
from reverie.spaces import OpenedLatent

VERSION = 1
"""Part of every key; raise it when the same weights would make other latents."""


def folder() -> Path:
    """$REVERIE_CACHE/latents, by default ~/.cache/reverie/latents."""
    return folder_of("latents")


def kept_latents(space: OpenedLatent, examples: Examples, mirrored: bool = False) -> Examples:
    """The examples with latents in place of their items: (N, Z, ...) float32, not standardized, mapped from the disk.

    Args:
        space: with the autoencoder.
        examples: as data.
        mirrored: whether of each example turned left to right.

    Raises:
        ValueError: 8-bit images, and the autoencoder is one of arrays, or the other way round.
    """
    space.check(examples.image)
    shape = (len(examples), *space.shape(examples.shape))
    before = next(iter(space.model.parameters())).device

    def part(rows: slice) -> np.ndarray:
        space.model.to(usable(None))
        data = torch.from_numpy(np.array(examples.items[rows]))  # a map that is read alone would be warned of
        made: np.ndarray = space.raw(data.flip(-1) if mirrored else data).numpy()
        return made

    items = kept(folder() / f"{_key(space, examples, mirrored)}.npy", shape, part, "latents")
    space.model.to(before)
    return replace(examples, items=items, image=False)


def _key(space: OpenedLatent, examples: Examples, mirrored: bool) -> str:
    about = [VERSION, config.to_data(space.model.config), config.to_data(space.inner), mirrored]
    return key_of(examples.items, f"{json.dumps(about, sort_keys=True)} {digest(space.model.net.state_dict())}")
