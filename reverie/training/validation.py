"""The loss on held-out examples, by noise level, with the same noise every time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.data import Examples
from reverie.denoiser import Denoises
from reverie.losses import Loss
from reverie.models import Autoencoder, Model
from reverie.prompts import OfExamples, Place
from reverie.spaces import Space
from reverie.synthesis import rows_at_once
from reverie.tensors import generator
from reverie.training.batches import SHOWN, VALIDATION, encoded
from reverie.training.noise import Draws
from reverie.training.seen import Seen

if TYPE_CHECKING:
    from reverie.runs import Run

LEVELS = 8
"""Equal shares of the loss's own distribution of times."""
EVALUATIONS = 1024
"""Network evaluations of one validation, about."""
MOST = EVALUATIONS // LEVELS
"""The largest batch: all pairs of a level."""


@dataclass(frozen=True)
class Validation:
    """The held-out loss, and its part in each share of the noise levels.

    `by_level[i]` is the loss where t lies between `bounds[i]` and `bounds[i + 1]`; the mean of
    `by_level` is `loss`.
    """

    loss: float
    by_level: tuple[float, ...]
    bounds: tuple[float, ...]


def validate(
    f: Denoises | Model, loss: Loss, examples: Examples, rows: np.ndarray, space: Space, seed: int, *, labels: bool,
    batch: int = MOST, device: torch.device | str = "cpu", told: OfExamples | None = None,
) -> Validation:  # fmt: skip
    """The loss of `f` on up to `EVALUATIONS` pairs of a held-out row and a noise level.

    Every level has as many pairs; rows, levels and noise depend on `seed` alone. The model is told the labels, where
    `labels` says so, and what `told` has besides.
    """
    each = MOST
    sums = torch.zeros(LEVELS, dtype=torch.float64)
    draw = generator(seed, VALIDATION)
    start = 0
    for level in range(LEVELS):
        chosen = rows[(start + np.arange(each)) % len(rows)]
        start = (start + each) % len(rows)
        u = (level + (torch.arange(each) + torch.rand(each, generator=draw, dtype=torch.float64)) / each) / LEVELS
        eps = torch.randn((each, *examples.shape), generator=draw)
        draws = Draws(each, partial(generator, seed, VALIDATION, level), eps)
        for first in range(0, each, batch):
            part = slice(first, first + batch)
            x0, label = encoded(examples, space, chosen[part], device)
            label = label if labels else None
            if told is not None:
                place = Place(first, each, (seed, SHOWN, VALIDATION, 1 + level))
                cond = told.cond(chosen[part], x0, label, place=place)
            else:
                cond = None if label is None else Cond(label=label)
            with torch.no_grad():
                sums[level] += loss(f, x0, u[part], cond, draws.noise(part)).cpu().double().sum()
    by_level = (sums / each).flip(0)  # u rises as t falls
    ends = torch.linspace(1, 0, LEVELS + 1, dtype=torch.float64)
    bounds = ends if isinstance(f, Autoencoder) else loss.times_at(ends, f.schedule)
    return Validation(float(by_level.mean()), _floats(by_level), _floats(bounds))


def held_out_loss(run: Run, f: Model, shown: Seen, rows: np.ndarray, device: torch.device | str) -> Validation:
    """`validate` as a run asks for it, with no more rows at once than a step of its training has memory for.

    The loss of an image-text pair is over the rows at hand, so that those of a step are compared.
    """
    recipe = run.recipe
    at_once = recipe.train.batch
    if recipe.kind != "pair":
        at_once = max(at_once, rows_at_once(run.shape, at_once, device))
    return validate(
        f, run.loss, shown.examples, rows, shown.space, recipe.train.seed, labels=recipe.labels,
        batch=min(MOST, at_once), device=device, told=shown.told,
    )  # fmt: skip


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values)
