"""Runs that are trained for so many seconds of this machine."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
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

    What is computed once before the first step, such as latents, is part of the seconds.

    Args:
        words: a recipe, as `reverie train` reads it.
        folder: where it will stand.
        seconds: of training.
        needed: its stages, by name.

    Raises:
        ValueError: the run in the folder is of other words, or was trained for other seconds.
    """
    asked = {"words": words, "asked": seconds}
    if (folder / TOOK).is_file():
        found = json.loads((folder / TOOK).read_text())
        if {key: found.get(key) for key in asked} != asked:
            raise ValueError(f"{folder} was asked for otherwise, {found}; remove it, or name another --folder")
        return load(folder)
    shutil.rmtree(folder, ignore_errors=True)  # what was stopped
    recipe = planned_by([*words, *QUIET])[0].recipe
    with tempfile.TemporaryDirectory() as place:
        before, speed = _timed(recipe, Path(place) / folder.name, needed)
    steps = max(50, int((seconds - before) / speed))
    recipe = planned_by([*words, *QUIET, f"train.steps={steps}"])[0].recipe
    examples = recipe.data.load()
    run = begin(folder, recipe, examples, needed)
    began = time.perf_counter()
    for report in Trainer(run, examples):
        if report.metrics.get("loss"):
            print(f"{folder.name} {report.step}/{steps} loss {report.metrics['loss']:.4g}", flush=True)
    told = {"seconds": before + time.perf_counter() - began, "before": before, "steps": steps, **asked}
    (folder / TOOK).write_text(json.dumps(told))
    return load(folder)


def took(run: Run) -> dict[str, float]:
    """Seconds and steps of a run's training, and of these seconds those `before` the first step."""
    found = json.loads((run.path / TOOK).read_text())
    return {name: found[name] for name in ("seconds", "before", "steps")}


def _timed(recipe: Recipe, folder: Path, needed: dict[str, Path] | None) -> tuple[float, float]:
    """Seconds before the first step, with nothing kept of an earlier run, and those of a step."""
    clock = [time.perf_counter()]
    examples = recipe.data.load()
    for report in Trainer(begin(folder, recipe, examples, needed), examples):
        clock.append(time.perf_counter())
        if report.step == 2 * TIMED:
            break
    seconds = np.diff(clock)
    speed = float(statistics.median(seconds[TIMED:]))
    return max(0.0, float(seconds[0]) - speed), speed
