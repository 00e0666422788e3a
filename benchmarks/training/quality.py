"""Time to quality: the distance of samples to held-out garments after each minute of training."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.training.features import Judge
from benchmarks.training.systems import SYSTEMS

ROOT = Path(__file__).parent.parent.parent
OURS = "reverie"


def train(names: Sequence[str], folder: Path, minutes: float, every: float, seed: int) -> None:
    """One after the other, in random order, each in a process of its own; what has been trained so is kept."""
    for name in random.Random(seed).sample(list(names), len(names)):
        out = place(folder, name)
        told = {"system": name, "minutes": minutes, "every": every, "seed": seed}
        done = out / "told.json"
        if done.exists() and json.loads(done.read_text()) == told:
            print(f"{name}: trained already, in {out}", flush=True)
            continue
        if out.exists():
            shutil.rmtree(out)
        out.mkdir(parents=True)
        print(f"training {name} for {minutes:g} minutes", flush=True)
        with (out / "output.txt").open("w") as output:
            words = [sys.executable, "-m", "benchmarks.training.systems", json.dumps(told | {"out": str(out)})]
            subprocess.run(words, cwd=ROOT, check=True, stdout=output, stderr=subprocess.STDOUT)
        done.write_text(json.dumps(told))


def place(folder: Path, name: str) -> Path:
    """Where a system's weights go."""
    return folder / "quality" / name.replace(", ", "-")


def judged(
    judge: Judge,
    names: Sequence[str],
    folder: Path,
    n: int,
    evaluations: int,
    seed: int,
    known: Sequence[dict[str, Any]],
    minutes: Sequence[float] | None,
    save: Callable[[list[dict[str, Any]]], object],
) -> list[dict[str, Any]]:
    """A row a system: its distances by minute. What is known of the same weights and settings is kept.

    The last minute of each comes first, then the others from the first on, so that a run cut short has seen all.
    """
    rows = [_row(name, folder, n, evaluations, seed, known) for name in names]
    wanted = [(i, row, at) for row in rows for i, at in enumerate(row["log"])]
    wanted = [w for w in wanted if not minutes or round(w[2]["minute"], 1) in minutes]
    wanted.sort(key=lambda w: (w[0] + 1 != len(w[1]["log"]), w[0]))
    for i, row, at in wanted:
        if "frechet" in at:
            continue
        out, began = place(folder, row["system"]), time.perf_counter()
        images = SYSTEMS[row["system"]].sample(out, out / f"{i + 1:03d}.safetensors", n, seed + 1, evaluations)
        at |= judge(images) | {"sampling": round(time.perf_counter() - began, 1)}
        if i + 1 == len(row["log"]):
            sheet(images[:64], folder / "quality" / f"{place(folder, row['system']).name}.png")
        print(f"{row['system']}, minute {at['minute']:g}: {at['frechet']:.3f}", flush=True)
        save(rows)
    save(rows)
    return rows


def _row(
    name: str, folder: Path, n: int, evaluations: int, seed: int, known: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    out, system = place(folder, name), SYSTEMS[name]
    log = json.loads((out / "log.json").read_text())
    settings = {"n": n, "evaluations": evaluations, "seed": seed}
    old = next((k for k in known if k["system"] == name and {s: k[s] for s in settings} == settings), None)
    if old is not None:
        at = {(k["minute"], k["steps"]): k for k in old["log"]}
        log = [at.get((k["minute"], k["steps"]), k) for k in log]
    words = {"system": name, "settings": system.settings, "sampler": system.sampler}
    return words | settings | {"parameters": system.parameters() or count(out), "log": log}


def count(out: Path) -> int:
    """Numbers in a system's weights."""
    from reverie.tensor_files import read_tensors

    return sum(t.numel() for t in read_tensors(out / "001.safetensors").values())


def sheet(images: Any, path: Path) -> None:  # noqa: ANN401
    """Rows of eight samples, to be looked at."""
    from PIL import Image

    side, images = images.shape[-1], images[: len(images) // 8 * 8]
    whole = images.reshape(-1, 8, side, side).swapaxes(1, 2).reshape(-1, 8 * side)
    Image.fromarray(whole).resize((16 * side, 2 * len(whole)), Image.Resampling.NEAREST).save(path)


def reached(log: Sequence[dict[str, Any]], goal: float) -> float | None:
    """The first minute at which the distance is at most `goal`, between two checkpoints by a straight line."""
    before: tuple[float, float] | None = None
    for at in log:
        if "frechet" not in at:
            continue
        minute, distance = at["minute"], at["frechet"]
        if distance <= goal:
            if before is None:
                return float(minute)
            return before[0] + (minute - before[0]) * (before[1] - goal) / (before[1] - distance)
        before = (minute, distance)
    return None
