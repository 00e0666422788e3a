"""Pictures that have the embedding of a given one, or one between that and another, or turned by a text (unCLIP).

Letters in shapes: B batch, n results, C channels, H height, W width, E numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.brownian import paths
from reverie.data.smaller import means
from reverie.edits.scene import Scene, Wish
from reverie.edits.way import Way, check_picture
from reverie.joint import spherical
from reverie.runs import Run
from reverie.unclip import differed

TURN = 0.5
"""How far a picture's embedding is turned towards the difference of two texts at the last result, unless told."""


@dataclass(frozen=True, eq=False)
class Vary(Way):
    """What the decoder draws of the embedding of a picture (Ramesh et al., 2022, sections 3.1 to 3.3).

    Of one picture alone, results differ in their noise: what they share is what the embedding says. With another
    picture, or with two texts, the embedding moves from the first result to the last, and all have one noise.

    Args:
        picture: (1, C, H, W) uint8.
        other: likewise, whose embedding is moved to on the sphere.
        texts: what the picture is of, and what it is to come nearer to.
        strength: how far it is moved, in (0, 1].
    """

    picture: Tensor
    other: Tensor | None = None
    texts: tuple[str, str] | None = None
    strength: float | None = None

    name = "vary"

    @property
    def moves(self) -> bool:
        """Whether the embedding is another for each result."""
        return self.other is not None or self.texts is not None

    def check(self, run: Run) -> None:
        check_picture(run, self.picture)
        if self.other is not None:
            check_picture(run, self.other)
        if self.other is not None and self.texts is not None:
            raise ValueError("a picture is varied towards another one, or by two texts; take one of them")
        if self.texts is not None and not all(text.strip() for text in self.texts):
            raise ValueError("a difference is that of two texts: give what the picture is of, and what it is to become")
        if self.strength is not None and not (self.moves and 0 < self.strength <= 1):
            raise ValueError(
                f"strength is how far an embedding is moved towards another picture or by two texts, above 0 and up to "
                f"1; given {self.strength:g}{'' if self.moves else ' and neither of them'}"
            )
        if decoder(run).recipe.embedding != "image":
            raise ValueError(
                f"{run.path} was not trained on embeddings of images, which are what is varied; train one with the "
                f"recipe unclip, or take --strength, which draws a picture again from some noise"
            )

    def number(self, wish: Wish) -> int:
        return 9 if self.moves else super().number(wish)

    def embedding(self, run: Run, n: int, shown: int) -> Tensor:
        joint = decoder(run).joint
        a = joint.images(_sized(self.picture, joint.run)).expand(n, -1)
        share = torch.linspace(0, 1, max(shown, 2))[:n]
        share = torch.cat([share, share.new_ones(n - len(share))])
        if self.other is not None:
            b = joint.images(_sized(self.other, joint.run)).expand(n, -1)
            return spherical(a, b, (1.0 if self.strength is None else self.strength) * share)
        if self.texts is not None:
            of, to = joint.texts(self.texts)
            return differed(a, of, to, (TURN if self.strength is None else self.strength) * share)
        return a

    def draw(self, scene: Scene) -> Tensor:
        whole = scene.whole or scene.request
        keys = [whole.part(0, 1).keys[0]] * scene.rows if self.moves else scene.request.keys
        return scene.decoded(scene.sampled(scene.guided(), scene.sampler, paths(keys), scene.cond()))

    def given(self, run: Run) -> list[Tensor]:
        return [self.picture] if self.other is None else [self.picture, self.other]


def decoder(run: Run) -> Run:
    """The run of a cascade that is told embeddings: the lowest one."""
    while run.has("base") and run.recipe.embedding == "none":
        run = run.stage("base")
    return run


def _sized(picture: Tensor, pair: Run) -> Tensor:
    """A picture (1, C, H, W) with the means of squares of its pixels, of the size that a pair knows."""
    factor = picture.shape[2] // pair.facts.shape[1]
    return picture if factor == 1 else torch.from_numpy(means(picture.numpy(), factor))
