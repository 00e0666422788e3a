"""What a way from a picture to others is.

Letters in shapes: B batch, C channels, C' channels of what a model is told, H height, W width.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.editing import Method
from reverie.editing.methods import DDRMMethod, DPSMethod, PathMethod, RePaintMethod
from reverie.edits.scene import Scene, Wish
from reverie.grids import Grid
from reverie.recipe import Sampling
from reverie.runs import Run
from reverie.samplers import DDIM

STEPS: dict[type[Method], int] = {RePaintMethod: 30, DDRMMethod: 20, PathMethod: 50, DPSMethod: 100}
"""Of the methods that belong to a number of steps, or need more or fewer than others."""
USUAL = 20
"""Steps of the others."""
RESULTS = 8
"""How many results there are unless told."""


class Way(abc.ABC):
    """Makes pictures (B, C, H, W) uint8 of one. A frozen dataclass: the picture and the settings."""

    name: ClassVar[str]

    @abc.abstractmethod
    def check(self, run: Run) -> None:
        """Refuse what cannot be done with a run.

        Raises:
            ValueError: and why.
        """

    @abc.abstractmethod
    def draw(self, scene: Scene) -> Tensor:
        """The results of a batch, (B, C, H, W) uint8 on the CPU."""

    @abc.abstractmethod
    def given(self, run: Run) -> list[Tensor]:
        """What is shown beside the results: (1, C, h, w) uint8 each, alpha 0 where a picture is unknown."""

    def own(self, run: Run) -> Sampling:
        """The run's sampling settings as this way is best gone."""
        return run.recipe.sample

    def image(self, run: Run) -> Tensor | None:
        """What the model is told of the picture, (1, C', H, W) in its space; None: nothing."""
        return None

    @property
    def moves(self) -> bool:
        """Whether all results have the noise of the first, and only what they are told differs."""
        return False

    def embedding(self, run: Run, n: int, shown: int) -> Tensor | None:
        """(n, E), the embeddings that the model is told in n rows, of which `shown` are results; None: none."""
        return None

    def number(self, wish: Wish) -> int:
        """How many results there are unless told."""
        return max(RESULTS, wish.number)


def by_method(run: Run, method: Method) -> Sampling:
    """Settings for a method that heeds a measurement: ancestral noise, and as many steps as it needs."""
    sample = run.recipe.sample
    return replace(sample, sampler=DDIM(1.0), grid=with_steps(run, STEPS.get(type(method), USUAL)))


def with_steps(run: Run, steps: int) -> Grid:
    """The run's own grid with so many steps; as it is, where the process is a chain that has not as many."""
    grid = run.recipe.sample.grid
    try:
        grid.with_steps(steps)(run.schedule)
    except ValueError:
        return grid
    return grid.with_steps(steps)


def known_seen(run: Run, known: Tensor) -> Tensor:
    """(1, 1, h, w) bool, what of x is known where pixels (1, 1, H, W) are: of latents, those of known pixels alone."""
    factor = known.shape[2] // run.shape[1]
    return known if factor == 1 else ~F.max_pool2d((~known).float(), factor).bool()


def with_hole(picture: Tensor, known: Tensor) -> Tensor:
    """(1, 4, H, W), transparent where a picture (1, C, H, W) is unknown."""
    c = picture.shape[1]
    alpha = picture[:, 3:] if c == 4 else torch.full_like(picture[:, :1], 255)
    colour = picture.expand(-1, 3, -1, -1) if c == 1 else picture[:, :3]
    return torch.cat([colour, torch.where(known, alpha, 0).to(torch.uint8)], 1)


def check_picture(run: Run, picture: Tensor) -> None:
    """Refuse a picture that is not as the run's examples are.

    Raises:
        ValueError: the run's examples are no images, or it has another shape or type.
    """
    check_images(run)
    if picture.dtype != torch.uint8 or tuple(picture.shape) != (1, *run.facts.shape):
        raise ValueError(
            f"a picture for {run.path} is uint8 of shape {(1, *run.facts.shape)}; given {picture.dtype} "
            f"{tuple(picture.shape)}"
        )


def check_images(run: Run) -> None:
    """Refuse a run of which no pictures can be edited.

    Raises:
        ValueError: its examples are no images, or it is no denoiser's.
    """
    shape: Sequence[int] = run.facts.shape
    if not run.facts.image or len(shape) != 3 or shape[0] not in (1, 3, 4):
        raise ValueError(f"pictures are edited by runs of images; {run.path} has examples of {tuple(shape)}")
    _ = run.denoiser


def check_pixels(run: Run, what: str) -> None:
    """Refuse a run whose model sees no pixels, for what is done to pixels.

    Args:
        run: the run.
        what: is done, in words.

    Raises:
        ValueError: it sees latents.
    """
    if run.recipe.space is not None and run.recipe.space.kind == "latent":
        raise ValueError(
            f"{what} needs a model that sees pixels, and that of {run.path} sees latents of them; take one trained on "
            f"pixels, or train one that is told the picture (image_condition.kind=masked or low_resolution)"
        )


def check_known(known: Tensor, picture: Tensor) -> None:
    """Refuse a mask that does not fit, or leaves nothing to do.

    Raises:
        ValueError: another shape or type, or all or nothing known.
    """
    if known.dtype != torch.bool or known.shape != (1, 1, *picture.shape[2:]):
        raise ValueError(
            f"a mask is bool of shape {(1, 1, *picture.shape[2:])}; given {known.dtype} {tuple(known.shape)}"
        )
    if bool(known.all()):
        raise ValueError("the mask leaves nothing to be painted: white is what is painted anew")
