"""The runs of the benchmark, and the ways in which samples of the first are guided.

Letters in shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from reverie.cli.compose import composed
from reverie.data import Examples
from reverie.guidance import AdaptiveProjectedGuide, AutoGuide, ClassifierFreeGuide, ClassifierGuide, Guide
from reverie.guidance.contrast import Interval
from reverie.runs import Run, begin, load
from reverie.training import Trainer

QUIET = ("train.sample_every=100000",)
RUNS: Mapping[str, tuple[str, ...]] = {
    "digits": (),
    "weaker": ("net.width=64", "net.depth=2", "train.steps=250"),
    "classifier": ("kind=classifier", "train.steps=400"),
}
"""Each is the recipe `digits` with these settings."""
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
BETWEEN = (1.1, 1.2, 1.35, 1.75)
"""More scales of the two ways that are compared: where lines bend most, straight pieces would lie below them."""
PLAIN, WITHIN = "everywhere", "interval"
TITLES = {
    PLAIN: "classifier-free, everywhere",
    WITHIN: "classifier-free, interval",
    "rescale": "classifier-free, rescale 0.7",
    "projected": "adaptive projected",
    "auto": "autoguidance",
    "classifier": "classifier guidance",
}


@dataclass(frozen=True)
class Drawing:
    """Samples of a run: how many, of which seed, in how many steps."""

    run: Run
    n: int
    seed: int
    steps: int

    def __call__(self, guide: Guide, scale: float) -> Tensor:
        """(N, 1, 8, 8) uint8, of every class in turn; scale 1 is no guidance, whatever the guide calls it."""
        sampling = replace(self.run.settings(steps=self.steps, guidance=guide.neutral + scale - 1), guide=guide)
        return self.run.sample(self.n, seed=self.seed, sampling=sampling)

    @property
    def labels(self) -> Tensor:
        """(N,), the classes asked for."""
        return torch.arange(self.n) % len(self.run.classes)


def trained(folder: Path, short: bool) -> tuple[dict[str, Run], Examples]:
    """The runs, trained unless they stand there, and their data; `short` is for trying the benchmark."""
    runs, examples = {}, None
    for name, settings in RUNS.items():
        recipe, _ = composed(["digits", *QUIET, *settings, *(("train.steps=20",) if short else ())])
        examples = recipe.data.load() if examples is None else examples
        for report in Trainer(begin(folder / name, recipe, examples), examples):
            if report.metrics:
                print(name, report.step, {k: v for k, v in report.metrics.items() if "loss" in k}, flush=True)
        runs[name] = load(folder / name)
    assert examples is not None
    return runs, examples


def ways(runs: Mapping[str, Run], interval: Interval) -> dict[str, Guide]:
    """How samples are guided, by name.

    The norm of the projected kind is a third of what the data measure: 64 numbers of size 0.75.
    """
    return {
        PLAIN: ClassifierFreeGuide(),
        WITHIN: ClassifierFreeGuide(interval=interval),
        "rescale": ClassifierFreeGuide(rescale=0.7),
        "projected": AdaptiveProjectedGuide(norm=2.0, momentum=-0.5),
        "auto": AutoGuide(run=str(runs["weaker"].path)),
        "classifier": ClassifierGuide(run=str(runs["classifier"].path)),
    }
