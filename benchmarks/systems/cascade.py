"""Emoji of 64x64 pixels: a cascade, with and without noise and blur on what it is told, and one model."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.systems.judging import distances, less, table
from benchmarks.systems.training import took, trained
from reverie.runs import Run

STEPS = 20
OF = ["styles=noto", "size=64"]
TOLD = ["captions=false", "attributes=[]", "labels=false"]
REST = ["train.batch=32", "train.lr=1e-3", "train.warmup=100", "train.decay=cosine", "train.precision=bf16"]
LARGE = ["data.kind=emoji", *(f"data.{word}" for word in OF), *TOLD, *REST]
SMALL = [
    "data.kind=smaller",
    "data.factor=2",
    "data.data.kind=emoji",
    *(f"data.data.{word}" for word in OF),
    *TOLD,
    *REST,
]
BASE = ["net.kind=unet", "net.width=48", "net.multipliers=[1,2,2]", "net.blocks=1", "net.attention=8"]
UPPER = ["net.kind=unet", "net.width=16", "net.multipliers=[1,2,4]", "net.blocks=[0,1,2]", "net.attention=8",
         "image_condition.kind=low_resolution", "image_condition.factor=2"]  # fmt: skip
NOISY = ["image_condition.noise=0.5", "image_condition.blur=0.6"]
SINGLE = ["net.kind=unet", "net.width=32", "net.multipliers=[1,2,2,4]", "net.blocks=1", "net.attention=8"]
LEVELS = (0.0, 0.2)
NOISELESS, PLAIN, ONE = "cascade, told noise of level 0", "cascade trained without noise and blur", "one model"


def measured(told: argparse.Namespace) -> dict[str, Any]:
    """A base, and what enlarges with and without augmentation, for half the `minutes` each; one model for all."""
    folder, seconds = told.folder / "cascade", 60 * told.minutes
    base = trained([*SMALL, *BASE], folder / "base", seconds / 2)
    noisy, plain = (
        trained([*LARGE, *UPPER, *more], folder / name, seconds / 2, {"base": base.path})
        for name, more in {"noise": NOISY, "plain": []}.items()
    )
    single = trained([*LARGE, *SINGLE], folder / "single", seconds)
    n = told.n
    sets = {f"cascade, told noise of level {level:g}": _drawn(noisy, n, level) for level in LEVELS}
    sets["cascade, base stopped at level 0.2"] = _drawn(noisy, n, 0.2, truncated=True)
    sets[PLAIN] = _drawn(plain, n)
    sets[ONE] = _drawn(single, n)
    return {
        "minutes": told.minutes, "n": n, "steps": STEPS,
        "distances": distances(single, sets),
        "training": {run.path.name: took(run) for run in (base, noisy, plain, single)},
    }  # fmt: skip


def _drawn(run: Run, n: int, level: float = 0.0, truncated: bool = False) -> np.ndarray:
    sampling = replace(run.settings(steps=STEPS), augmentation=level, truncated=truncated)
    return run.sample(n, seed=1, sampling=sampling).numpy()


def page(found: dict[str, Any]) -> list[str]:
    """The table, and what it says."""
    steps = {name: f"{told['steps']:,}" for name, told in found["training"].items()}
    return [
        f"Noto's emoji of 64x64, told nothing; {found['minutes']:g} minutes of two cores for each system: one model "
        f"({steps['single']} steps of 32), or a base of 32x32 ({steps['base']}) and what enlarges ({steps['noise']} "
        f"with noise and blur, {steps['plain']} without, on the same base), half of the time each. {found['n']:,} "
        f"samples of {found['steps']} steps a stage, in features of EfficientNet-Lite0.",
        "",
        *table(found["distances"]),
        "",
        f"All are far from trained in this time. The KID x 1000 of the cascade, told noise of level 0, is less than "
        f"that of one model by {less(found['distances'], NOISELESS, ONE)}, and than that of one trained without noise "
        f"and blur by {less(found['distances'], NOISELESS, PLAIN)}.",
    ]
