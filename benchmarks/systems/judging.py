"""Distances in features that no run knows, and seconds."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from reverie.evaluation import Collection, Reference, Settings
from reverie.evaluation.extractors import from_text
from reverie.evaluation.extractors.embedding import embed
from reverie.evaluation.metrics import from_names
from reverie.evaluation.reading import of_run
from reverie.runs import Run

FEATURES = "efficientnet"


def distances(run: Run, sets: dict[str, np.ndarray], most: int = 2000) -> list[dict[str, Any]]:
    """FID and KID of each set of samples to training examples of a run, and of as many held-out ones."""
    n = min(len(items) for items in sets.values())
    real = of_run(run, most, n)
    reference = Reference(real.train, Settings((from_text(FEATURES),), from_names("fid,kid")), real.held_out)
    found, floors = [], {}
    for name, items in sets.items():
        numbers = reference.evaluate(Collection(items, real.train.image, name)).numbers
        told = {number.name: number.value for number in numbers}
        found.append({"what": name, **told, **{f"{number.name}_error": number.error for number in numbers}})
        floors = {number.name: number.floor for number in numbers}
    return [*found, {"what": "held-out pictures", **floors}]


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Lines of `distances`."""

    def told(row: dict[str, Any], name: str, digits: int, times: float = 1) -> str:
        value, error = row.get(name), row.get(f"{name}_error")
        if value is None:
            return "–"
        return f"{times * value:.{digits}f}" + (f" ± {times * error:.{digits}f}" if error else "")

    columns = [each for each in (("fid", "FID", 1), ("kid", "KID x 1000", 1000)) if any(each[0] in row for row in rows)]
    made = [f"| | {' | '.join(title for _, title, _ in columns)} |", "|---|" + "---|" * len(columns)]
    return made + [
        f"| {row['what']} | {' | '.join(told(row, name, 1, times) for name, _, times in columns)} |" for row in rows
    ]


def less(rows: list[dict[str, Any]], one: str, other: str) -> str:
    """By how much the KID x 1000 of `one` is less than that of `other`, with its error."""
    a, b = (next(row for row in rows if row["what"] == what) for what in (one, other))
    error = math.hypot(a["kid_error"], b["kid_error"])
    return f"{1000 * (b['kid'] - a['kid']):.0f} ± {1000 * error:.0f}"


def features_of(items: np.ndarray) -> np.ndarray:
    """(N, F), of pictures (N, C, H, W) uint8."""
    return embed(from_text(FEATURES).open(Collection(items, True, "pictures")), items).values


def interleaved(ways: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """The median seconds of each, in turn."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(each) for name, each in seconds.items()}
