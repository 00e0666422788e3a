"""What each metric sees: real images made worse in known ways, in the features of three extractors.

The reference is real garments of Fashion-MNIST; each row of a table is other garments made worse
(`benchmarks/evaluation/degraded.py`), or copies of a few of the reference. Of every number the error is
told by four disjoint parts of the row. Then what the documentation says is held to the numbers: which ladders a
metric sees, to which rows it is blind, and which it takes for better than real ones.

    python -m benchmarks.evaluation.orderings            # about six minutes of one thread, most of them efficientnet
    python -m benchmarks.evaluation.orderings --only pixels --out /tmp/orderings

Writes results/evaluation-orderings.json and .md, and the tables of docs/evaluation.md. Exit status 1: an
ordering fails.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evaluation.degraded import LADDERS, REAL, rows
from benchmarks.publishing import ROOT, about, filled, lines, provenance
from reverie.data.base import groups
from reverie.data.idx import Fashion
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Classifier, EfficientNetLite0, Extractor, Features, Opened, Pixels
from reverie.evaluation.extractors.embedding import aligned, embed
from reverie.evaluation.metrics import Metric, from_names
from reverie.evaluation.team import Team, one_thread
from reverie.files import write_text

RESULTS = Path(__file__).parents[1] / "results" / "evaluation-orderings.json"
PAGE = ROOT / "docs" / "evaluation.md"
SEED, PARTS = 0, 4
CLEAR, SLACK = 5.0, 2.0
"""Standard errors by which a difference is seen, and by which a step of a ladder may go the wrong way."""

EXTRACTORS: dict[str, Extractor] = {
    "pixels": Pixels(), "classifier": Classifier(), "efficientnet": EfficientNetLite0(),
}  # fmt: skip
SIZES = {"pixels": (2000, 1500), "classifier": (2000, 1500), "efficientnet": (600, 240)}
"""Real examples of the reference, and samples of a row."""
LEARNT = 12_000
"""Garments of which the classifier learns most, none of them in the reference."""
SHAPES = "precision,recall,density,coverage"
METRICS = {
    "pixels": f"sliced_wasserstein,mmd,kid,{SHAPES},modes,mode_balance",
    "classifier": f"fid,fid_infinity,kid,{SHAPES},inception_score,modes,mode_balance,label_accuracy",
    "efficientnet": f"kid,{SHAPES},inception_score,modes,mode_balance",
}

ALL = tuple(LADDERS)
CHANGED = ("noise", "blur", "shift")
SEES = {
    "pixels": {
        "sliced_wasserstein": ALL, "mmd": ALL, "kid": ("noise", "shift", "mirror", "classes", "copies"),
        "recall": ("blur", "shift", "mirror", "classes", "copies"), "precision": ("noise", "mirror"),
        "coverage": ("noise", "shift", "mirror", "classes", "copies"), "modes": ("classes",),
        "mode_balance": ("noise", "shift", "mirror", "classes", "copies"),
    },
    "classifier": {
        "fid": ALL, "fid_infinity": ALL, "kid": ALL, "recall": ALL, "coverage": ALL,
        "precision": ("shift", "mirror"), "density": ("blur", "shift", "mirror"),
        "inception_score": (*CHANGED, "classes"), "modes": ("classes",), "mode_balance": ("classes", "copies"),
        "label_accuracy": (*CHANGED, "mirror"),
    },
    "efficientnet": {
        "kid": (*CHANGED, "classes", "copies"), "coverage": (*CHANGED, "classes", "copies"),
        "recall": ("noise", "blur", "classes", "copies"), "precision": CHANGED, "density": ("noise", "blur"),
        "inception_score": ("noise", "blur", "classes"), "mode_balance": ("noise", "blur", "classes"),
    },
}  # fmt: skip
"""The ladders that a metric sees: their end is clearly worse than real images, and no step clearly goes back."""
COVERING = ("half the classes", "one class", "50 copied")
BLIND = {
    "pixels": {"precision": ("half the classes", "50 copied"), "density": COVERING},
    "classifier": {"precision": COVERING, "density": COVERING, "label_accuracy": ("half the classes", "50 copied")},
    "efficientnet": {
        "precision": ("half the classes", "50 copied"),
        **dict.fromkeys(("kid", "recall", "coverage"), ("mirrored",)),
    },
}
"""Rows that a metric cannot tell from real images."""
FOOLED = {
    "pixels": {
        "recall": ("noise 40 %",),
        "precision": ("blur 2 px",),
        "density": ("blur 2 px",),
    }
}
"""Rows that a metric takes for clearly better than real images."""

Table = dict[str, dict[str, tuple[float, float]]]
"""Row, metric: value and standard error."""


def features(opened: Opened, images: Collection, team: Team) -> Features:
    """Those of a collection, of equal images computed once."""
    first, where = np.unique(groups(images.items), return_inverse=True)
    found = embed(opened, images.items[first], team).take(where)
    return Features(found.values, found.probabilities, aligned(opened, images))


def measured(
    opened: Opened, reference: Collection, others: Collection, n: int, metrics: tuple[Metric, ...]
) -> Table:  # fmt: skip
    """The table of an extractor, a row at a time, on one thread."""
    team, table = Team(), {}
    with one_thread():
        real = features(opened, reference, team)
        for row, make in rows(reference, others, n).items():
            made = features(opened, make(), team)
            table[row] = {metric.kind: with_error(metric, made, real) for metric in metrics}
            print(f"{row:18}", *(f"{kind} {value:.4g}" for kind, (value, _) in table[row].items()), flush=True)
    return table


def with_error(metric: Metric, made: Features, real: Features) -> tuple[float, float]:
    """The number of all samples, and s / sqrt(parts) of those of disjoint parts.

    Raises:
        Unfit: a part is too small.
    """
    metric.check(made, real)
    parts = [made.take(rows) for rows in np.array_split(np.arange(len(made)), PARTS)]
    for part in parts:
        metric.check(part, real)
    error = np.std([metric(part, real) for part in parts], ddof=1) / math.sqrt(PARTS)
    return metric(made, real), float(error)


def worse_by(metric: str, row: tuple[float, float], than: tuple[float, float]) -> float:
    """By how many standard errors one number is worse than another."""
    (value, error), (other, other_error) = row, than
    gap = value - other if from_names(metric)[0].better == "lower" else other - value
    return 0.0 if gap == 0 else gap / max(math.hypot(error, other_error), 1e-12)


def faults(extractor: str, table: Table) -> list[str]:
    """What is said of an extractor's metrics and is not so."""
    found = []
    for metric, ladders in SEES[extractor].items():
        for ladder in ladders:
            steps = [table[row][metric] for row in (REAL, *LADDERS[ladder])]
            gaps = [worse_by(metric, after, before) for before, after in pairwise(steps)]
            if min(gaps) < -SLACK or worse_by(metric, steps[-1], steps[0]) < CLEAR:
                found.append(f"{extractor}: {metric} does not see {ladder}: {[round(s[0], 5) for s in steps]}")
    for metric, blind in BLIND.get(extractor, {}).items():
        found += [
            f"{extractor}: {metric} is not blind to {row}" for row in blind
            if worse_by(metric, table[row][metric], table[REAL][metric]) > CLEAR
        ]  # fmt: skip
    for metric, fooled in FOOLED.get(extractor, {}).items():
        found += [
            f"{extractor}: {metric} is not fooled by {row}" for row in fooled
            if worse_by(metric, table[row][metric], table[REAL][metric]) > -CLEAR
        ]  # fmt: skip
    return found


def as_text(table: Table) -> str:
    """A table for a page: in bold what is clearly worse than real images, in italics what is clearly better."""
    kinds = list(table[REAL])
    parts = {metric.kind: metric for metric in from_names(",".join(kinds))}
    out = ["| | " + " | ".join(parts[kind].title for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for row, found in table.items():
        cells = []
        for kind in kinds:
            value, gap = found[kind][0], worse_by(kind, tuple(found[kind]), tuple(table[REAL][kind]))
            text = f"{value:.1%}" if parts[kind].unit == "%" else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
            cells.append(f"**{text}**" if gap > CLEAR else f"*{text}*" if gap < -CLEAR else text)
        out.append(f"| {row} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def tables(found: dict[str, Any]) -> dict[str, str]:
    """By the names of their places in the page."""
    out = {}
    for extractor, part in found.items():
        told = f"{part['samples']:,} images a row beside {part['reference']:,} real ones, {part['features']} features. "
        out[extractor] = f"{told}{about(part)}\n\n{as_text(part['table'])}"
    return out


def garments(m: int) -> tuple[Collection, Collection, Collection]:
    """What the classifier learns from, a reference of M, and others: shuffled, and disjoint."""
    examples = Fashion().load()
    order = np.random.Generator(np.random.Philox(SEED)).permutation(len(examples))
    every = Collection(examples.items, True, "Fashion-MNIST", {}, examples.labels, examples.classes)
    return every.take(order[:LEARNT]), every.take(order[LEARNT : LEARNT + m]), every.take(order[LEARNT + m :])


def measure(name: str) -> dict[str, Any]:
    """An extractor's table, and how it was made."""
    m, n = SIZES[name]
    learnt, reference, others = garments(m)
    extractor, began = EXTRACTORS[name], time.perf_counter()
    print(f"{name}: {m} real garments, {n} a row", flush=True)
    opened = extractor.open(learnt if extractor.learns else reference)
    table = measured(opened, reference, others, n, from_names(METRICS[name]))
    return {
        "about": provenance(("numpy", "torch"), SEED), "seconds": round(time.perf_counter() - began), "samples": n,
        "reference": m, "features": opened.width, "digest": opened.digest, "extractor": dict(opened.about),
        "table": table,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=EXTRACTORS, action="append", help="these, the others as they were")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the figures; .md beside it, and docs/evaluation.md")
    told = parser.parse_args()
    torch.set_num_threads(1)
    kept = told.out.with_suffix(".json")
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in told.only or EXTRACTORS:
        found[name] = measure(name)
        write_text(kept, lines(found))
    found = {name: found[name] for name in EXTRACTORS if name in found}
    sections = [f"## {name}\n\n{text}" for name, text in tables(found).items()]
    write_text(kept.with_suffix(".md"), "\n\n".join(["# What each metric sees", *sections, ""]))
    if told.out == RESULTS:
        write_text(PAGE, filled(PAGE.read_text(), tables(found)))
    wrong = [fault for name, part in found.items() for fault in faults(name, part["table"])]
    print("\n".join(wrong) or "every ordering holds")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
