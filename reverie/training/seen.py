"""Examples as a model is shown them in training: as they are, or as latents that were computed once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.data import Examples
from reverie.latents import kept_latents
from reverie.prompts import OfExamples
from reverie.spaces import OpenedLatent, Space

if TYPE_CHECKING:
    from reverie.runs import Run


@dataclass(frozen=True, eq=False)
class Seen:
    """Examples, the space that makes x0 of them, and what the model is told of them."""

    examples: Examples
    space: Space
    told: OfExamples | None
    """Besides their label; None for nothing."""
    mirrored: Examples | None = None
    """The examples turned left to right, where that is more than turning x0, and it is to be done."""


def seen(run: Run, examples: Examples) -> Seen:
    """What the model of a run is shown of its examples.

    Raises:
        ValueError: the autoencoder of the run is missing, or another than it was trained with.
    """
    space, told = run.space, None if run.vocabulary.plain else run.told(examples)
    if not isinstance(space, OpenedLatent):
        return Seen(examples, space, told)
    mirrored = kept_latents(space, examples, mirrored=True) if run.recipe.train.flip else None
    return Seen(kept_latents(space, examples), space.standard, told, mirrored)
