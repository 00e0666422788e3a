"""Features of real examples, computed once: they are kept on disk by what they are features of, and by whom.

Letters in shapes: N examples, F features, K classes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from reverie import config
from reverie.digests import digest
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Features, Opened
from reverie.evaluation.team import Team
from reverie.tensor_files import read_with_metadata, write_tensors
from reverie.version import __version__

log = logging.getLogger("reverie")


def folder() -> Path:
    """$REVERIE_CACHE/features, by default ~/.cache/reverie/features."""
    return Path(os.environ.get("REVERIE_CACHE") or Path.home() / ".cache" / "reverie") / "features"


def remembered(
    extractor: Extractor, opened: Opened, of: Collection, team: Team, device: torch.device, make: Callable[[], Features]
) -> Features:
    """The features that were kept, or those that `make` gives, which are kept from then on.

    A file that is damaged is made again; where the disk will not have it, nothing is kept. Features of a
    CPU and of an accelerator differ in their last bits, so each has a file of its own.

    Args:
        extractor: its settings.
        opened: itself; one without weights costs nothing, and its features are not kept.
        of: the real examples.
        team: the processes that share the work; the first one reads and writes.
        device: where the features are computed.
        make: computes them, on all processes together.
    """
    if not opened.digest:
        return make()
    told = [
        config.to_data(extractor),
        opened.digest,
        opened.about,
        of.digest,
        device.type,
        torch.__version__,
        __version__,
    ]
    name = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]
    path = folder() / f"{name}.safetensors"
    kept = team.told(_read(path) if team.main else None)
    if kept is not None:
        return kept
    found = make()
    if team.main:
        _write(path, found)
    return found


def _read(path: Path) -> Features | None:
    if not path.is_file():
        return None
    try:
        tensors, _ = read_with_metadata(path)
        values, probabilities = tensors["values"], tensors.get("probabilities")
    except (ValueError, KeyError) as error:
        log.warning("the features kept in %s are damaged (%s); they are computed again", path, error)
        return None
    return Features(values.double().numpy(), None if probabilities is None else probabilities.double().numpy())


def _write(path: Path, found: Features) -> None:
    given = {"values": found.values, "probabilities": found.probabilities}
    tensors = {name: _small(array) for name, array in given.items() if array is not None}
    try:
        write_tensors(path, tensors, {"sha256": digest(tensors)})
    except OSError as error:
        log.warning("features cannot be kept in %s (%s)", path.parent, error)


def _small(array: np.ndarray) -> torch.Tensor:
    """In float32 where that loses nothing, as of features that a network made."""
    half = array.astype(np.float32)
    return torch.from_numpy(half if np.array_equal(half, array) else array)
