"""The sheets of samples drawn during training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from reverie.denoiser import Denoiser
from reverie.outputs import write_samples
from reverie.recipe import Sampling
from reverie.runs import SAMPLES, Run
from reverie.schedules import Schedule
from reverie.synthesis import Request, synthesize

PREVIEW_STEPS = 50
"""Sampler steps of a sheet, at the most."""
ROWS = 8
"""Samples of each class on a sheet; the square of it where there are no classes."""
BATCH = 64
"""Samples at a time, whatever memory is free: on a GPU it shows in the last bits of a sheet."""


def shortened(sampling: Sampling, schedule: Schedule, most: int) -> Sampling:
    """Settings of sampling with at most so many steps."""
    if len(sampling.grid(schedule)) - 1 <= most:
        return sampling
    return replace(sampling, grid=sampling.grid.with_steps(most))


def draw(run: Run, denoiser: Denoiser, step: int, device: torch.device) -> Path:
    """Write a sheet of samples of `denoiser`, from the same seeds at every step.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    facts, sampling = run.facts, shortened(run.recipe.sample, run.schedule, PREVIEW_STEPS)
    classes = len(run.classes)
    shown, each = min(classes, ROWS * 4) or ROWS, ROWS if facts.image else 100
    labels = run.labels_for(each * shown, list(range(shown)) if classes else None)
    x = synthesize(denoiser, facts.shape, sampling, Request(labels, batch=BATCH), device)
    path = run.path / SAMPLES / f"{step:08d}.png"
    write_samples(path, run.space.decode(x), labels, facts, {"step": step, "seed": 0})
    return path
