"""Pictures of which less is known than a picture: small ones, grey ones, blurred ones.

Letters in shapes: B batch, C channels, H height, W width, m... the shape of a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.editing import Measurement, Method, Operator
from reverie.editing.methods import DDRMMethod
from reverie.edits.scene import Scene
from reverie.edits.way import Way, by_method, check_images, check_pixels
from reverie.recipe import Sampling
from reverie.runs import Run
from reverie.tensors import streams

ROUNDING = 1 / 127.5 / 12**0.5
"""The standard deviation of what rounding to 8 bits does to a pixel in [-1, 1]."""


def measured(run: Run, picture: Tensor, operator: Operator, noise: float = 0.0, seed: int = 0) -> Tensor:
    """(B, m...) uint8: what an operator leaves of pictures (B, C, H, W), with noise, as 8-bit pictures."""
    y = operator.forward(run.space.encode(picture))
    return run.space.decode(y + noise * streams([(seed, i, 0) for i in range(len(y))])(y))


@dataclass(frozen=True, eq=False)
class Restore(Way):
    """Pictures of which an operator makes the given one.

    Args:
        seen: (1, m...) uint8, what is known.
        operator: what made it.
        noise: its standard deviation where pixels run from -1 to 1.
        method: how it is heeded.
        picture: (1, C, H, W), the true one, if it is there to be shown.
    """

    seen: Tensor
    operator: Operator
    noise: float = ROUNDING
    method: Method = field(default_factory=DDRMMethod)
    picture: Tensor | None = None

    name = "restore"

    def check(self, run: Run) -> None:
        check_images(run)
        check_pixels(run, "restoring a picture")
        shape = self.operator.shape(self.seen.shape[1:])
        if shape != run.facts.shape:
            raise ValueError(
                f"that of which {tuple(self.seen.shape[1:])} is seen has the shape {shape}; {run.path} makes "
                f"{run.facts.shape}"
            )

    def own(self, run: Run) -> Sampling:
        return by_method(run, self.method)

    def draw(self, scene: Scene) -> Tensor:
        known = Measurement(self.operator, scene.encoded(self.seen), self.noise)
        f, sampler = self.method.on(scene.guided(), scene.sampler, known)
        return scene.decoded(scene.sampled(f, sampler, scene.noise(), scene.cond()))

    def given(self, run: Run) -> list[Tensor]:
        seen = [self.seen] if self.seen.ndim == 4 and self.seen.dtype == torch.uint8 else []
        return seen if self.picture is None else [self.picture, *seen]
