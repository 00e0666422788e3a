"""What an evaluation is given: what it says of it, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from reverie.config import Plain
from reverie.data import Folder
from reverie.evaluation.collection import Collection


def told_of(given: Collection) -> dict[str, Plain]:
    """What a protocol says of a collection."""
    return {
        "source": given.source, "n": len(given), "shape": list(given.shape), "image": given.image,
        "digest": given.digest, **given.about,
    }  # fmt: skip


_WHOLE = (Sequence, Mapping, np.ndarray, torch.Tensor)
"""What can be iterated over and is no loader."""


def check_real(real: object) -> None:
    """Refuse what is no fixed set of real examples.

    Raises:
        ValueError: a loader of training batches, whose examples are augmented and without end, or anything else.
    """
    if isinstance(real, Collection):
        if len(real) < 2:
            raise ValueError(f"a reference needs at least 2 real examples; {real.source} has {len(real)}")
        return
    loader = isinstance(real, Iterator) or (hasattr(real, "__iter__") and not isinstance(real, _WHOLE))
    if loader or hasattr(real, "step"):
        raise ValueError(
            f"a {type(real).__name__} is no reference: it gives training batches, augmented and in no fixed number; "
            "give the examples themselves, as a Collection of them, or name the data"
        )
    raise ValueError(
        "a reference is a Collection of real examples, as reverie.evaluation.reading makes; "
        f"given {type(real).__name__}"
    )


def check_alike(given: Collection, real: Collection, what: str) -> None:
    """Refuse examples that are not of the reference's shape and kind.

    Raises:
        ValueError: they are not; the sentence says how to make them so.
    """
    if given.image == real.image and given.shape == real.shape:
        return
    theirs, ours = _said(given), _said(real)
    fixed = [_fixed(given), _fixed(real)]
    if given.image and real.image and not all(fixed):
        one, other = (given.shape, real.shape) if fixed[0] else (real.shape, given.shape)
        cure = [f"--size {one[1]}" if one[1] == one[2] else f"--size {one[1]},{one[2]}"] if one[1:] != other[1:] else []
        cure += [f"--channels {one[0]}"] if one[0] != other[0] else []
        advice = f"; read {'the folder' if any(fixed) else 'both'} alike with {' '.join(cure)}"
    else:
        advice = ""
    raise ValueError(f"{what} ({given.source}) are {theirs}, and the reference ({real.source}) is {ours}{advice}")


def _fixed(given: Collection) -> bool:
    """Whether its examples have the size they have: samples of a run, and what is no folder of images."""
    return "run" in given.about or (given.data is not None and not isinstance(given.data, Folder))


def _said(given: Collection) -> str:
    kind = "images" if given.image else "arrays"
    return f"{kind} of {'x'.join(map(str, given.shape))}"
