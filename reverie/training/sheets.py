"""The sheets drawn during training: samples, or what an autoencoder makes of examples.

Letters in shapes: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reverie import pictures
from reverie.data import Examples
from reverie.denoiser import Denoiser
from reverie.guiding import helper_of
from reverie.models import Autoencoder
from reverie.outputs import write_samples
from reverie.prompts import Asked, of_examples
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.runs import SAMPLES, Run
from reverie.schedules import Schedule
from reverie.synthesis import synthesize
from reverie.tensors import generator, sent

PREVIEW_STEPS = 50
"""Sampler steps of a sheet, at the most."""
ROWS = 8
"""Samples of each class on a sheet; the square of it where there are no classes."""
SHEETS = 7
"""Keeps the stream of randomness of images that are told apart from others."""
REBUILT = 4
"""Rows of examples on the sheet of an autoencoder, each over what was made of it."""
BATCH = 64
"""Samples at a time, whatever memory is free: on a GPU it shows in the last bits of a sheet."""


def shortened(sampling: Sampling, schedule: Schedule, most: int) -> Sampling:
    """Settings of sampling with at most so many steps."""
    if len(sampling.grid(schedule)) - 1 <= most:
        return sampling
    return replace(sampling, grid=sampling.grid.with_steps(most))


@dataclass(frozen=True, eq=False)
class Shown:
    """Examples from whose images samples are made, by a model that is told one."""

    examples: Examples
    rows: np.ndarray
    """(N,), those that were held out."""

    def request(self, run: Run) -> Request:
        """`ROWS` squared samples, each told all that is known of one of the first examples, which are used in turn."""
        condition = run.recipe.image_condition
        assert condition is not None
        rows = np.resize(self.rows, ROWS * ROWS)
        x0 = run.space.encode(torch.from_numpy(np.ascontiguousarray(self.examples.items[rows])))
        told = condition.of(x0, generator(run.recipe.train.seed, SHEETS))
        request = run.request(of_examples(run.vocabulary, self.examples, rows), told.image)
        assert isinstance(request.cond, Asked)
        return replace(request, cond=replace(request.cond, level=told.level))


def _request(run: Run, shown: Shown | None) -> Request:
    """What a sheet shows: `ROWS` samples of each class, or one of each of the run's own prompts, or of images."""
    if shown is not None and len(shown.rows) and run.recipe.image_condition is not None:
        return shown.request(run)
    classes, each = len(run.classes), ROWS if run.facts.image else 100
    if run.facts.prompts:
        return run.ask(ROWS * each)
    kinds = min(classes, ROWS * 4) or ROWS
    return Request(run.labels_for(each * kinds, list(range(kinds)) if classes else None))


def draw(run: Run, denoiser: Denoiser, step: int, device: torch.device, shown: Shown | None = None) -> Path:
    """Write a sheet of samples of `denoiser`, from the same seeds at every step.

    Args:
        run: whose sheet it is.
        denoiser: with the averaged weights.
        step: of training.
        device: where the denoiser is.
        shown: what a model that is told an image is told; none unless given.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    facts, sampling = run.facts, shortened(run.recipe.sample, run.schedule, PREVIEW_STEPS)
    request = replace(_request(run, shown), batch=BATCH)
    helper = helper_of(run, sampling, request, device)
    x = synthesize(denoiser, run.shape, sampling, request, device, helper=helper)
    path = run.path / SAMPLES / f"{step:08d}.png"
    about: dict[str, Any] = {"step": step, "seed": 0} | ({"texts": list(request.texts)} if request.texts else {})
    if run.recipe.image_condition is not None:
        about["image"] = "none" if request.cond is None or request.cond.image is None else "of held-out examples"
    write_samples(path, run.space.decode(x), request, facts, about)
    return path


def draw_rebuilt(run: Run, model: Autoencoder, step: int, shown: Shown) -> Path | None:
    """Write a sheet of held-out examples over what an autoencoder makes of them; None where there are none.

    Args:
        run: whose sheet it is.
        model: with the averaged weights.
        step: of training.
        shown: the examples.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    if len(shown.rows) == 0:
        return None
    rows = shown.rows[np.linspace(0, len(shown.rows) - 1, min(len(shown.rows), REBUILT * ROWS)).round().astype(int)]
    given = torch.from_numpy(np.ascontiguousarray(shown.examples.items[rows]))
    x0 = sent(run.space.encode(given), next(model.parameters()), torch.float32)
    with torch.no_grad():
        made = run.space.decode(model.decode(model.encode(x0)).cpu())
    path, about = run.path / SAMPLES / f"{step:08d}.png", {"step": step, "shows": "held-out examples, rebuilt below"}
    if run.facts.image:
        lines = [line for pair in zip(given.split(ROWS), made.split(ROWS), strict=True) for line in pair]
        names = [name for _ in given.split(ROWS) for name in ("given", "rebuilt")]
        pictures.save_png(pictures.sheet([line.numpy() for line in lines], row_labels=names), path, about)
    else:
        pairs = torch.stack([given.to(made), made], 1)[: REBUILT * 2].flatten(0, 1)
        write_samples(path, pairs, Request((None,) * len(pairs)), run.facts, about)
    return path
