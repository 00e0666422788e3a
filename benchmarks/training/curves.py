"""Whole training runs of ours: loss curves of the paths laid over each other, and precisions compared over seeds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.training.networks import plain_path

NEVER = 10**9


def trained(words: Sequence[str], steps: int, out: Path, path: AbstractContextManager[object]) -> dict[str, Any]:
    """Losses of each step, the last validation loss, and seconds, of a run of a recipe that is then thrown away."""
    import reverie
    from reverie.cli.compose import composed
    from reverie.runs import begin

    if out.exists():
        shutil.rmtree(out)
    put_off = [f"train.{what}_every={NEVER}" for what in ("sample", "save", "validate")]
    sheets = ("sample.sampler.kind=ddim", "sample.grid.steps=1", "sample.guidance=1")  # the first and last are drawn
    recipe, _ = composed([*words, f"train.steps={steps}", *put_off, *sheets, "train.ema_lengths=[]"])
    examples = recipe.data.load()
    losses, validation, began = [], float("nan"), time.perf_counter()
    with path:
        run = begin(out, recipe, examples)
        for report in reverie.Trainer(run, examples):
            if report.stopped is not None:  # the trainer hears signals, and we have more than one run
                raise KeyboardInterrupt
            if report.loss is None:
                began = time.perf_counter()
            else:
                losses.append(report.loss)
            found = report.metrics.get("validation_loss")
            validation = float(found) if isinstance(found, float) else validation
    shutil.rmtree(out)
    return {"losses": losses, "validation": validation, "seconds": round(time.perf_counter() - began, 2)}


def curves(words: Sequence[str], steps: int, folder: Path) -> dict[str, Any]:
    """The fast path, the plain one and bf16 from the same seed; and the plain one on one thread, as a yardstick.

    Another number of threads adds the same numbers up in another order: how far that alone takes a run
    apart is what rounding does.
    """
    threads, out = torch.get_num_threads(), folder / "curves"
    found = {
        "fast": trained(words, steps, out, nullcontext()),
        "plain": trained(words, steps, out, plain_path()),
        "fast, bf16": trained([*words, "train.precision=bf16"], steps, out, nullcontext()),
        "plain, bf16": trained([*words, "train.precision=bf16"], steps, out, plain_path()),
    }
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        found["plain, other threads"] = trained(words, steps, out, plain_path())
    finally:
        torch.set_num_threads(threads)
    return {"recipe": list(words), "steps": steps, "curves": found}


def deviation(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, int]:
    """The largest |a - b| / b of two curves, its mean, and the step where it is largest, from 1."""
    off = [abs(x - y) / y for x, y in zip(a, b, strict=True)]
    return max(off), mean(off), off.index(max(off)) + 1


def precisions(
    runs: Sequence[tuple[Sequence[str], int]], seeds: int, folder: Path, say: Any = print  # noqa: ANN401
) -> dict[str, Any]:  # fmt: skip
    """Validation losses of each recipe, precision and seed."""
    rows = []
    for words, steps in runs:
        for seed in range(seeds):
            for precision in ("no", "bf16"):
                told = [*words, f"train.seed={seed}", f"train.precision={precision}"]
                found = trained(told, steps, folder / "precision", nullcontext())
                row = {"recipe": words[0], "steps": steps, "seed": seed, "precision": precision}
                rows.append(row | {"validation": found["validation"], "seconds": found["seconds"]})
                say(f"{words[0]}, seed {seed}, {precision}: {found['validation']:.5f} in {found['seconds']:.0f} s")
    return {"rows": rows}
