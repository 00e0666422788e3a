"""From a picture to others through its noise.

Letters in shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from reverie.editing import image_to_image, slerp, taken
from reverie.edits.scene import Scene, Wish
from reverie.edits.way import Way, check_picture, with_steps
from reverie.recipe import Sampling
from reverie.runs import Run
from reverie.samplers import Heun
from reverie.sampling import generate, invert

STEPS = 50
"""Of an inversion."""


@dataclass(frozen=True, eq=False)
class Redraw(Way):
    """The picture noised, and drawn again from there; see `reverie.editing.image_to_image`.

    Args:
        picture: (1, C, H, W) uint8.
        strength: the share of the steps that are taken, in (0, 1].
    """

    picture: Tensor
    strength: float = 0.6

    name = "redraw"

    def check(self, run: Run) -> None:
        check_picture(run, self.picture)
        taken(run.grid(run.schedule), self.strength)

    def draw(self, scene: Scene) -> Tensor:
        x0 = scene.encoded(self.picture)
        x0 = x0.expand(scene.rows, *x0.shape[1:])
        f, noise = scene.guided(), scene.noise()
        return scene.decoded(image_to_image(f, scene.sampler, scene.times, x0, scene.cond(), noise, self.strength))

    def given(self, run: Run) -> list[Tensor]:
        return [self.picture]


@dataclass(frozen=True, eq=False)
class Convert(Way):
    """The noise of the picture, found without guidance, and what is wished drawn of it; no noise is added.

    Args:
        picture: (1, C, H, W) uint8.
        source: what is in the picture.
        strength: how far up to the noise it is taken, in (0, 1].
    """

    picture: Tensor
    source: Wish = field(default_factory=Wish)
    strength: float = 1.0

    name = "invert"

    def check(self, run: Run) -> None:
        check_picture(run, self.picture)
        taken(run.grid(run.schedule), self.strength)
        self.source.request(run, 1)

    def own(self, run: Run) -> Sampling:
        return invertible(run)

    def number(self, wish: Wish) -> int:
        return wish.number

    def draw(self, scene: Scene) -> Tensor:
        source = self.source.request(scene.run, 1).condition(slice(None), scene.device)
        ahead = taken(scene.times, self.strength)
        z = invert(scene.plain, scene.sampler, ahead, scene.encoded(self.picture), source)
        z = z.expand(scene.rows, *z.shape[1:])
        return scene.decoded(generate(scene.guided(), scene.sampler, ahead, z, scene.cond()))

    def given(self, run: Run) -> list[Tensor]:
        return [self.picture]


@dataclass(frozen=True, eq=False)
class Blend(Way):
    """From one picture to another, along the arc between their noises; the ends are among the results.

    The noises are those of the pictures as what result 0 is wished to be, whichever batch a result is drawn in.

    Args:
        picture: (1, C, H, W) uint8.
        other: likewise.
    """

    picture: Tensor
    other: Tensor

    name = "blend"

    def check(self, run: Run) -> None:
        check_picture(run, self.picture)
        check_picture(run, self.other)

    def own(self, run: Run) -> Sampling:
        return invertible(run)

    def number(self, wish: Wish) -> int:
        return 9

    def draw(self, scene: Scene) -> Tensor:
        one, first = scene.leading(), scene.request.start
        a, b = (
            invert(scene.plain, scene.sampler, scene.times, scene.encoded(p), one) for p in (self.picture, self.other)
        )
        share = [min(1.0, (first + i) / max(1, scene.n - 1)) for i in range(scene.rows)]
        z = torch.cat([slerp(a, b, w) for w in share])
        return scene.decoded(generate(scene.guided(), scene.sampler, scene.times, z, scene.cond()))

    def given(self, run: Run) -> list[Tensor]:
        return [self.picture, self.other]


def invertible(run: Run) -> Sampling:
    """The run's settings with a sampler that goes both ways, and as many steps as an inversion needs."""
    sample = run.recipe.sample
    sampler = sample.sampler if sample.sampler.invertible else Heun()
    return replace(sample, sampler=sampler, grid=with_steps(run, STEPS))
