"""Runs that are trained for so many seconds of this machine."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import numpy as np

from reverie.cli.compose import planned_by
from reverie.recipe import Recipe
from reverie.runs import Run, begin, load
from reverie.training import Trainer

TIMED = 12
"""Steps by which a model is timed, after as many to warm up."""
QUIET = ("train.validate_every=100000", "train.sample_every=100000", "train.save_every=100000", "train.ema_lengths=[]")
TOOK = "took.json"


def trained(words: list[str], folder: Path, seconds: float, needed: dict[str, Path] | None = None) -> Run:
    """A run of these words, trained for about so many seconds; one that stands in the folder is taken as it is.

    Args:
        words: a recipe, as `reverie train` reads it.
        folder: where it will stand; beside it one by which its steps are timed.
        seconds: of training.
        needed: its stages, by name.
    """
    if (folder / TOOK).is_file():
        return load(folder)
    recipe = planned_by([*words, *QUIET])[0].recipe
    speed = _seconds_a_step(recipe, folder.with_name(f"{folder.name}-timed"), needed)
    steps = max(50, int(seconds / speed))
    recipe = planned_by([*words, *QUIET, f"train.steps={steps}"])[0].recipe
    examples = recipe.data.load()
    run = begin(folder, recipe, examples, needed)
    began = time.perf_counter()
    for report in Trainer(run, examples):
        if report.metrics.get("loss"):
            print(f"{folder.name} {report.step}/{steps} loss {report.metrics['loss']:.4g}", flush=True)
    seconds = time.perf_counter() - began
    (folder / TOOK).write_text(json.dumps({"seconds": seconds, "steps": steps}))
    return load(folder)


def took(run: Run) -> dict[str, float]:
    """Seconds and steps of a run's training."""
    return dict(json.loads((run.path / TOOK).read_text()))


def _seconds_a_step(recipe: Recipe, folder: Path, needed: dict[str, Path] | None) -> float:
    examples = recipe.data.load()
    clock: list[float] = []
    for report in Trainer(begin(folder, recipe, examples, needed), examples):
        clock.append(time.perf_counter())
        if report.step == 2 * TIMED:
            break
    return float(statistics.median(np.diff(clock[TIMED:])))
