"""Students beside their teachers: quality against evaluations, and what training them took: docs/distilling.md.

    python -m benchmarks.distilling digits                        # every method; or some: digits progressive scm
    python -m benchmarks.distilling fashion distribution_matching
    python -m benchmarks.distilling report                        # the page, of what is in results/distilling.json

A teacher is trained first, its times are tuned, and its curve is measured once. Students are those of `reverie
distill` as it is. Runs stand in --folder and are used again. Run nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.publishing import ROOT, about, filled, lines, provenance
from reverie import config
from reverie.cli.compose import planned_by
from reverie.distilling import METHODS, STUDENT, TEACHER, Asked, Line, correlation, measured, plan_for, students
from reverie.evaluation.evaluate import Settings
from reverie.evaluation.extractors import from_text
from reverie.evaluation.job import Job
from reverie.evaluation.metrics import from_names
from reverie.files import write_text
from reverie.plan import Plan
from reverie.runs import Run, begin, load
from reverie.training import Trainer
from reverie.tuning import Settings as Tuning
from reverie.tuning import tune

RESULTS, DOC = ROOT / "benchmarks" / "results" / "distilling.json", ROOT / "docs" / "distilling.md"
LIBRARIES = ("torch", "efficientnet-lite-pytorch")
TEACHERS = {
    "digits": ["digits"],
    "fashion": [
        "fashion", "net.kind=unet", "net.width=32", "net.multipliers=[1,2,2]", "net.blocks=1", "train.warmup=100",
        "train.decay=cosine", "train.precision=bf16", "train.batch=64", "train.lr=1e-3", "train.steps=1100",
    ],
}  # fmt: skip
FEATURES = {"digits": "classifier", "fashion": "efficientnet"}
COUNTS = (4, 8, 50)
"""Evaluations of a teacher, guidance not counted."""
STEPS = {"progressive": [(1, 2, 4)], "distribution_matching": [(1,), (4,)], "imitation": [(8, 16)]}
"""Of the students of a method; 1, 2 and 4 by one student where it is not named."""
QUIET = ("train.validate_every=100000", "train.sample_every=100000", "train.save_every=100000")
TOOK, PAIRS = "took.json", 64


def taught(plan: Plan, folder: Path) -> float:
    """Train a plan, stages first, as `reverie train` does; the seconds that it took, those of its stages among them."""
    if (folder / TOOK).is_file():
        return float(json.loads((folder / TOOK).read_text())["seconds"])
    plan = plan.placed(folder)
    seconds, needed = 0.0, {}
    for name, stage in plan.stages.items():
        needed[name] = stage if isinstance(stage, Path) else folder / name
        if not isinstance(stage, Path):
            seconds += taught(stage, folder / name)
    began = time.perf_counter()
    examples = plan.recipe.data.load()
    for report in Trainer(begin(folder, plan.recipe, examples, needed), examples):
        if report.metrics.get("loss"):
            print(f"{folder} {report.step}/{report.steps} loss {report.metrics['loss']:.4g}", flush=True)
    seconds += time.perf_counter() - began
    (folder / TOOK).write_text(json.dumps({"seconds": seconds}))
    return seconds


def told(line: Line) -> dict[str, Any]:
    """A line as it is kept."""
    return {
        "who": line.who, "sampler": line.sampler, "tuned": line.tuned, "steps": line.steps,
        "evaluations": line.evaluations, "seconds": line.seconds, "distance": line.number.value,
        "error": line.number.error, "alike": line.alike,
    }  # fmt: skip


def alike(teacher: Run, student: Run, steps: int) -> float:
    """The correlation of pictures of the same noise, of the teacher in 50 steps and of the student."""
    finest = teacher.sample(PAIRS, sampling=teacher.settings(steps=COUNTS[-1]))
    return correlation(student.sample(PAIRS, sampling=student.settings(steps=steps)), finest)


def job(data: str) -> Job:
    """FID in fixed features."""
    return Job(Settings((from_text(FEATURES[data]),), from_names("fid")))


def teacher_of(data: str, folder: Path) -> tuple[Run, float]:
    """The teacher, with times tuned for few evaluations, and the seconds of its training."""
    seconds = taught(planned_by([*TEACHERS[data], *QUIET])[0], folder / "teacher")
    run = load(folder / "teacher")
    if not (run.path / "tuned.json").is_file():
        tune(run, Tuning((2, 4, 8)), lambda done, what: None, print)
    return run, seconds


def measure(data: str, methods: list[str], n: int, folder: Path, found: dict[str, Any]) -> None:
    """Put the teacher, once, and each of the methods into `found`."""
    run, seconds = teacher_of(data, folder)
    guidance = run.recipe.sample.guidance
    if data not in found:
        _, mine = measured(job(data), run, TEACHER, COUNTS, guidance, n, 0, lambda what, share: None)
        found[data] = {
            "about": provenance(LIBRARIES, 0), "n": n, "seconds": seconds, "guidance": guidance,
            "teacher": [told(line) for line in mine], "students": [],
        }  # fmt: skip
    for method in methods:
        for steps in STEPS.get(method, [(1, 2, 4)]):
            out = folder / f"{method}-{'-'.join(map(str, steps))}"
            own = (guidance, guidance) if METHODS[method].lessons else (1.0, 1.0)
            asked = Asked(method, steps, own, out, tuple(config.parse_override(word) for word in QUIET))
            took = taught(plan_for(run, asked), out)
            made: list[Line] = []
            for number, place in students(run, asked).items():
                found_now = measured(job(data), load(place), STUDENT, [number], 1.0, n, 0, lambda what, share: None)[1]
                made += [replace(line, alike=alike(run, load(place), line.steps)) for line in found_now]
            entry = {"method": method, "training": took, "lines": [told(line) for line in made]}
            others = [e for e in found[data]["students"] if (e["method"], len(e["lines"])) != (method, len(made))]
            same = [e for e in found[data]["students"] if e not in others]
            kept = [e for e in same if [x["steps"] for x in e["lines"]] != [x["steps"] for x in entry["lines"]]]
            found[data]["students"] = [*others, *kept, entry]
            print(json.dumps(entry), flush=True)


def page(data: str, found: dict[str, Any]) -> str:
    """The table of one set of data."""
    best = next(line for line in found["teacher"] if line["steps"] == 50)
    rows = [
        f"{data.capitalize()}: a teacher of {found['seconds']:.0f} seconds of training, guidance "
        f"{found['guidance']:g}; FID of {found['n']:,} samples in features of {FEATURES[data]}. Same picture: the "
        f"correlation of {PAIRS} samples with what the teacher makes of the same noise in 50 steps.",
        "",
        "| method | training, s | evaluations | FID | beside the teacher's 50 steps | same picture | seconds / 1,000 |",
        "|---|---|---|---|---|---|---|",
    ]

    def row(name: str, training: str, line: dict[str, Any]) -> str:
        error = "" if line["error"] is None else f" ± {line['error']:.1f}"  # of too few samples it has none
        return (
            f"| {name} | {training} | {line['evaluations']} | {line['distance']:.1f}{error} | "
            f"{100 * (line['distance'] / best['distance'] - 1):+.0f} % | "
            f"{'' if line.get('alike') is None else format(line['alike'], '.2f')} | {line['seconds']:.3g} |"
        )

    for line in found["teacher"]:
        rows.append(row(f"teacher, {line['sampler']}{', tuned' if line['tuned'] else ''}", "", line))
    for entry in found["students"]:
        for line in entry["lines"]:
            rows.append(row(entry["method"].replace("_", " "), f"{entry['training']:.0f}", line))
    return "\n".join([*rows, "", about(found)])


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distilling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", choices=[*TEACHERS, "report"])
    parser.add_argument("methods", nargs="*", help="all of them unless given")
    parser.add_argument("-n", type=int, default=1500, help="samples that are judged (default: %(default)d)")
    parser.add_argument("--folder", type=Path, default=Path("runs/distilling"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found = json.loads(asked.out.read_text()) if asked.out.is_file() else {}
    if asked.data == "report":
        write_text(DOC, filled(DOC.read_text(), {name: page(name, part) for name, part in found.items()}))
        return
    methods = asked.methods or list(METHODS)
    for method in methods:
        measure(asked.data, [method], asked.n, asked.folder / asked.data, found)
        write_text(asked.out, lines(found))


if __name__ == "__main__":
    main()
