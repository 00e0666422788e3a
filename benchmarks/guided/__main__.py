"""Guided digits: accuracy and diversity over scales 1 to 8, for six ways of guidance.

Trains the recipe `digits`, a smaller and shorter one that errs more, and a classifier of noisy digits; chooses an
interval of noise levels on samples of one seed, and measures all ways on samples of another. Who the samples are
said to be is judged by a network that guides nothing (benchmarks/guided/judging.py). Scale 1 is none for all ways: the
scale of a classifier is one more than what it is called elsewhere.

    python -m benchmarks.guided                                # about twelve minutes of one idle core
    python -m benchmarks.guided --page                         # tables and picture again, from the results
    python -m benchmarks.guided --short -n 40 --runs /tmp/runs --out /tmp/guided

Writes results/guided.json and .md, the tables of docs/guidance.md and docs/pictures/guided.png.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.guided import page
from benchmarks.guided.judging import Judge, Told
from benchmarks.guided.trading import gaps
from benchmarks.guided.ways import BETWEEN, PLAIN, SCALES, WITHIN, Drawing, trained, ways
from benchmarks.publishing import ROOT, filled, lines, provenance
from reverie.data import Examples
from reverie.files import write_text
from reverie.guidance import ClassifierFreeGuide, Guide
from reverie.guidance.contrast import Interval
from reverie.runs import Run

RESULTS, PAGE = ROOT / "benchmarks" / "results" / "guided", ROOT / "docs" / "guidance.md"
PICTURE = PAGE.parent / "pictures" / "guided.png"
SEED, CHOOSING = 1, 2
"""Of the samples that are judged, and of those that an interval is chosen by."""
STEPS = 12
LOWS, HIGHS, FEW = (0.0, 0.3, 0.6), (1.2, 2.0, 4.0), (1.0, 1.2, 1.5, 2.0, 4.0)
"""Intervals that are tried, and at which scales."""


def at_scales(drawing: Drawing, judge: Judge, guide: Guide, scales: tuple[float, ...], none: Told) -> list[Told]:
    """What is told of the samples at each scale; at 1 it is `none`, of samples that nothing guides."""
    found = []
    for scale in scales:
        told = none if scale == 1 else judge(drawing(guide, scale).numpy(), drawing.labels.numpy())
        found.append(told)
        shown = f"{told.row['accuracy']:.1%} accurate, diversity {told.row['diversity']:.3f}"
        print(f"  {guide.kind:20} {scale:4g}: {shown}", flush=True)
    return found


def unguided(drawing: Drawing, judge: Judge) -> Told:
    return judge(drawing(ClassifierFreeGuide(), 1.0).numpy(), drawing.labels.numpy())


def chosen(drawing: Drawing, judge: Judge) -> tuple[Interval, list[dict[str, Any]]]:
    """The interval of the best trade-off against guidance everywhere, and what was tried."""
    none = unguided(drawing, judge)
    plain = at_scales(drawing, judge, ClassifierFreeGuide(), FEW, none)
    tried = []
    for low, high in ((low, high) for low in LOWS for high in HIGHS):
        print(f"  from {low:g} to {high:g}")
        own = at_scales(drawing, judge, ClassifierFreeGuide(interval=(low, high)), FEW, none)
        tried.append({"low": low, "high": high, "gap": float(gaps(own, plain)[0])})
    best = max((row for row in tried if np.isfinite(row["gap"])), key=lambda row: row["gap"])
    return (best["low"], best["high"]), tried


def measured(runs: dict[str, Run], examples: Examples, n: int) -> dict[str, Any]:
    """All figures."""
    run = runs["digits"]
    judge = Judge(examples, run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed))
    interval, tried = chosen(Drawing(run, max(2 * n // 5, 20), CHOOSING, STEPS), judge)
    print(f"chosen: {interval}")
    drawing = Drawing(run, n, SEED, STEPS)
    none = unguided(drawing, judge)
    guides = ways(runs, interval)
    found = {way: at_scales(drawing, judge, g, SCALES, none) for way, g in guides.items()}
    more = {way: at_scales(drawing, judge, guides[way], BETWEEN, none) for way in (PLAIN, WITHIN)}
    real = {"held out": judge.real, "trained on": judge.known}
    return {
        "samples": n, "steps": STEPS, "interval": list(interval), "tried": tried, "judge": dict(judge.opened.about),
        "real": [{"digits": name, "n": len(some), **judge(some.items, some.labels).row} for name, some in real.items()],
        "rows": _rows(found, SCALES), "between": _rows(more, BETWEEN),
        "at_three": [{"way": way, **with_errors(_at_three(told))} for way, told in found.items()],
        "trade": with_errors(_trade({way: _in_order(found[way], more[way]) for way in more})),
    }  # fmt: skip


def _rows(found: dict[str, list[Told]], scales: tuple[float, ...]) -> list[dict[str, Any]]:
    pairs = ((way, scale, told) for way, several in found.items() for scale, told in zip(scales, several, strict=True))
    return [{"way": way, "scale": scale, **told.row} for way, scale, told in pairs]


def _at_three(told: list[Told]) -> dict[str, np.ndarray]:
    """What changes from scale 1 to 3."""
    none, three = (told[SCALES.index(scale)] for scale in (1.0, 3.0))
    return {name: getattr(three, name) - getattr(none, name) for name in ("accuracy", "diversity")}


def _in_order(found: list[Told], more: list[Told]) -> list[Told]:
    """At all scales, from the least."""
    pairs = sorted(zip((*SCALES, *BETWEEN), (*found, *more), strict=True), key=lambda pair: pair[0])
    return [told for _, told in pairs]


def _trade(lines: dict[str, list[Told]]) -> dict[str, np.ndarray]:
    """The interval against guidance everywhere."""
    pair = lines[WITHIN], lines[PLAIN]
    return {"accuracy": gaps(*pair), "diversity": gaps(*pair, "diversity", "accuracy")}


def with_errors(values: dict[str, np.ndarray]) -> dict[str, float]:
    """The first of each (1 + R,) values, and its standard error; of those that are numbers."""
    found = {}
    for name, each in values.items():
        numbers = each[1:][np.isfinite(each[1:])]
        found |= {
            name: float(each[0]),
            f"{name}_error": float(np.std(numbers, ddof=1)) if len(numbers) > 1 else math.nan,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=1000, help="samples of each way at each scale")
    parser.add_argument("--short", action="store_true", help="hardly train")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/guided"), help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS, help="without a suffix")
    told = parser.parse_args()
    torch.set_num_threads(1)
    kept = told.out.with_suffix(".json")
    if told.page:
        found = json.loads(kept.read_text())
    else:
        runs, examples = trained(told.runs, told.short)
        began, wall = time.process_time(), time.perf_counter()
        figures = measured(runs, examples, told.n)
        took = {"processor": round(time.process_time() - began), "wall": round(time.perf_counter() - wall)}
        found = {"about": provenance(("torch", "numpy"), SEED), "seconds": took, **figures}
        write_text(kept, lines(found))
        found = json.loads(kept.read_text())
    write_text(kept.with_suffix(".md"), page.full(found))
    page.plot(found, PICTURE if told.out == RESULTS else kept.with_suffix(".png"))
    if told.out == RESULTS:
        write_text(PAGE, filled(PAGE.read_text(), page.tables(found)))
    print(page.full(found))


if __name__ == "__main__":
    main()
