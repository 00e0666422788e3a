"""Parts of a picture painted anew, and room around it.

Letters in shapes: B batch, C channels, H height, W width, H' and W' those of a larger canvas.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.editing import Margins, Mask, Measurement, Method, enlarged, pasted
from reverie.editing.methods import RePaintMethod
from reverie.edits.scene import Scene
from reverie.edits.way import Way, by_method, check_known, check_picture, check_pixels, known_seen, with_hole
from reverie.image_conditions import Masked
from reverie.recipe import Sampling
from reverie.runs import Run


@dataclass(frozen=True, eq=False)
class Inpaint(Way):
    """What is unknown of the picture is drawn; known pixels are kept bit for bit.

    Args:
        picture: (1, C, H, W) uint8.
        known: (1, 1, H, W) bool.
        method: how what is known is heeded.
    """

    picture: Tensor
    known: Tensor
    method: Method = field(default_factory=RePaintMethod)

    name = "inpaint"

    def check(self, run: Run) -> None:
        check_picture(run, self.picture)
        check_pixels(run, "filling in what a mask hides")
        check_known(self.known, self.picture)

    def own(self, run: Run) -> Sampling:
        return by_method(run, self.method)

    def draw(self, scene: Scene) -> Tensor:
        return filled(scene, self.picture, self.known, self.method)

    def given(self, run: Run) -> list[Tensor]:
        return [self.picture, with_hole(self.picture, self.known)]


@dataclass(frozen=True, eq=False)
class Outpaint(Way):
    """The picture with room around it that is drawn: (B, C, H', W'), its own pixels kept bit for bit.

    The canvas is drawn window by window, each of the picture's size, those beside it before those at the corners,
    so any network will do. All but the first window of a result know what the ones before them drew.

    Args:
        picture: (1, C, H, W) uint8.
        margins: pixels to add, fewer than the picture has on that side.
        method: how what is known is heeded; None for a model that is told a mask.
    """

    picture: Tensor
    margins: Margins
    method: Method | None = field(default_factory=RePaintMethod)

    name = "outpaint"

    def check(self, run: Run) -> None:
        check_picture(run, self.picture)
        (h, w), m = self.picture.shape[2:], self.margins
        if max(m.top, m.bottom) >= h or max(m.left, m.right) >= w:
            raise ValueError(
                f"a window of {h}x{w} must hold some of the picture, so margins are less than that; given "
                f"{m.top},{m.right},{m.bottom},{m.left}"
            )
        if self.method is not None:
            check_pixels(run, "painting around a picture")
        if self.method is None and not isinstance(run.recipe.image_condition, Masked):
            raise ValueError(f"{run.path} is not told what of a picture is known; give a method")

    def own(self, run: Run) -> Sampling:
        return run.recipe.sample if self.method is None else by_method(run, self.method)

    def image(self, run: Run) -> Tensor | None:
        if self.method is not None:
            return None
        assert run.recipe.image_condition is not None
        known = torch.ones(1, 1, *self.picture.shape[2:], dtype=torch.bool)
        x0 = run.space.encode(self.picture)
        return run.recipe.image_condition.given(x0, known_seen(run, known)).image

    def draw(self, scene: Scene) -> Tensor:
        canvas, known = enlarged(self.picture, self.margins)
        canvas = canvas.repeat(scene.rows, 1, 1, 1)
        for number, window in enumerate(self._windows()):
            if bool(known[window].all()):
                continue
            canvas[window] = filled(scene, canvas[window], known[window], self.method, number)
            known[window] = True
        return canvas

    def _windows(self) -> Iterator[tuple[slice, ...]]:
        """Of the canvas: beside the picture, then at its corners."""
        (h, w), m = self.picture.shape[2:], self.margins
        tops, lefts = (m.top, 0, m.top + m.bottom), (m.left, 0, m.left + m.right)
        places = [(y, x) for y in tops for x in lefts]
        for y, x in sorted(places, key=lambda at: (at[0] != m.top) + (at[1] != m.left)):
            yield slice(None), slice(None), slice(y, y + h), slice(x, x + w)

    def given(self, run: Run) -> list[Tensor]:
        return [with_hole(*enlarged(self.picture, self.margins))]


def filled(scene: Scene, picture: Tensor, known: Tensor, method: Method | None, window: int = 0) -> Tensor:
    """(B, C, H, W) uint8, what is unknown of pictures (1 or B, C, H, W) drawn.

    Args:
        scene: the batch.
        picture: uint8.
        known: (1, 1, H, W) bool.
        method: how what is known is heeded; None for a model that is told it.
        window: numbers the noise.
    """
    noise = scene.noise(*(window,) * (window > 0))
    x0 = scene.encoded(picture)
    if method is None:
        condition = scene.run.recipe.image_condition
        assert condition is not None
        told = condition.given(x0, known_seen(scene.run, known)).image
        told = told.expand(scene.rows, *told.shape[1:])
        made = scene.sampled(scene.guided(told), scene.sampler, noise, scene.cond(told))
    else:
        mask = Mask(known[0].to(scene.device))
        f, sampler = method.on(scene.guided(), scene.sampler, Measurement(mask, mask.forward(x0)))
        made = scene.sampled(f, sampler, noise, scene.cond())
    return pasted(scene.decoded(made), picture, known)
