"""By a model that is told an image.

Letters in shapes: B batch, C channels, H height, W width, h and w those of a smaller picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.editing import pasted
from reverie.edits.scene import Scene
from reverie.edits.way import Way, check_images, check_known, check_picture, known_seen, with_hole
from reverie.image_conditions import Edges, LowResolution, Masked
from reverie.runs import Run


def tells(run: Run, masked: bool) -> bool:
    """Whether a run's model is told of a picture: of one with a mask, or of the whole of it."""
    condition = run.recipe.image_condition
    return condition is not None and isinstance(condition, Masked) == masked


def small_size(run: Run) -> tuple[int, int] | None:
    """(h, w) of the small pictures that a model of low resolution enlarges; None for other models."""
    condition = run.recipe.image_condition
    if not isinstance(condition, LowResolution):
        return None
    _, h, w = run.facts.shape
    return h // condition.factor, w // condition.factor


@dataclass(frozen=True, eq=False)
class Told(Way):
    """The picture is what the model is conditioned on, as it was in training.

    Args:
        picture: (1, C, H, W) uint8; for a model of low resolution also (1, C, h, w), one that is small already.
        known: (1, 1, H, W) bool, for a model that is told a mask; known pixels are kept bit for bit.
    """

    picture: Tensor
    known: Tensor | None = None

    name = "told"

    def check(self, run: Run) -> None:
        check_images(run)
        condition = run.recipe.image_condition
        if condition is None:
            raise ValueError(f"{run.path} was trained without images as conditions, so it has no use for one")
        if isinstance(condition, Masked) and self.known is None:
            raise ValueError(f"{run.path} is told a picture and what of it is known: give a mask")
        if self.known is not None:
            if not isinstance(condition, Masked):
                raise ValueError(f"{run.path} is told {condition.kind} of whole pictures, and has no use for a mask")
            check_known(self.known, self.picture)
        if tuple(self.picture.shape[2:]) != small_size(run):
            check_picture(run, self.picture)

    def image(self, run: Run) -> Tensor | None:
        condition, x0 = run.recipe.image_condition, run.space.encode(self.picture)
        assert condition is not None
        if isinstance(condition, LowResolution) and tuple(self.picture.shape[2:]) == small_size(run):
            return condition.enlarged(x0)
        known = None if self.known is None else known_seen(run, self.known)
        return condition.given(x0, known).image

    def draw(self, scene: Scene) -> Tensor:
        made = scene.decoded(scene.sampled(scene.guided(), scene.sampler, scene.noise(), scene.cond()))
        return made if self.known is None else pasted(made, self.picture, self.known)

    def given(self, run: Run) -> list[Tensor]:
        if self.known is not None:
            return [self.picture, with_hole(self.picture, self.known)]
        told = self.image(run)
        assert told is not None
        if isinstance(run.recipe.image_condition, Edges):
            told = told - 1  # a slope of 0 is black
        shown = run.space.decode(told)
        return [self.picture, shown] if shown.shape[1] in (1, 3, 4) and shown.dtype == torch.uint8 else [self.picture]
