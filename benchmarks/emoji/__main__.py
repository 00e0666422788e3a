"""Whether samples of a trained run are the emoji that were asked for.

    reverie train emoji --out runs/emoji
    python -m benchmarks.emoji judge runs/emoji
    python -m benchmarks.emoji judge runs/emoji --captions 60 --out /tmp/emoji
    python -m benchmarks.emoji real                      # real pictures alone, on the terminal

Up to 300 captions of held-out emoji and as many that were trained on are asked for, each once, in a style dealt at
random. A pair of an image and a text network that the run knows nothing of looks for each sample's caption among
them; classifiers tell category and style. Real pictures for the same captions stand beside.

The judge learns in about three minutes of one thread, and remembers; drawing the samples takes what it takes. Writes
OUT.json, OUT.md and OUT.png, by default in benchmarks/results; with --page, the table of docs/emoji.md too.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.emoji.asking import Questions, questions
from benchmarks.emoji.judging import TOLD, Judge, attribute, judged, learnt
from benchmarks.emoji.page import drawn, page, said, table, wanted
from benchmarks.publishing import ROOT, filled, lines, provenance
from reverie import runs, tensor_files
from reverie.data import Examples
from reverie.data.emoji import Emoji
from reverie.evaluation.team import one_thread
from reverie.files import atomic, write_text
from reverie.runs import Run

LIBRARIES = ("torch", "transformers", "scikit-learn", "efficientnet-lite-pytorch", "emoji")
PAGE = ROOT / "docs" / "emoji.md"
ROWS, EACH = 10, 6
"""Captions of each side on the sheet, and samples of each."""


def draw(run: Run, examples: Examples, rows: np.ndarray, told: argparse.Namespace, start: int = 0) -> np.ndarray:
    """A sample for the caption, style and category of each row, (N, C, H, W) uint8; `start` numbers the first."""
    attributes = {
        name: [found.classes[value] if value >= 0 else None for value in found.values[rows]]
        for name in _asked(run)
        for found in [attribute(examples, name)]
    }
    sampling = run.settings(steps=told.steps, guidance=told.guidance)
    prompts = [examples.texts[row] for row in rows]
    return run.sample(
        len(rows), prompt=prompts, attributes=attributes, seed=told.seed, sampling=sampling, start=start
    ).cpu().numpy()  # fmt: skip


def _asked(run: Run) -> list[str]:
    """Attributes that the run knows and that are asked for."""
    return [name for name in TOLD if name in run.vocabulary.parts]


def sides(asked: Questions) -> dict[str, np.ndarray]:
    """Rows by side."""
    return {"seen": asked.seen, "held_out": asked.held_out}


def figures(judge: Judge, examples: Examples, rows: np.ndarray, made: np.ndarray | None) -> dict[str, Any]:
    """Of real pictures, and of samples where there are any."""
    found = {"real": judged(judge, examples, rows, examples.items[rows])}
    if made is not None:
        found["samples"] = judged(judge, examples, rows, made)
    return {what: {name: dataclasses.asdict(each) for name, each in of.items()} for what, of in found.items()}


def measured(named: Examples, asked: Questions, made: Mapping[str, np.ndarray], seed: int) -> dict[str, Any]:
    """All figures, on one thread.

    Args:
        named: examples with their names alone as captions.
        asked: what for.
        made: samples of each side; none for real pictures alone.
        seed: for the record.
    """
    with one_thread():
        judge = learnt(named, asked.learnt)
        found = {side: figures(judge, named, rows, made.get(side)) for side, rows in sides(asked).items()}
        return {"about": provenance(LIBRARIES, seed), "judge": {"learnt_from": judge.learnt_from}, "sides": found}


def judge_run(told: argparse.Namespace) -> int:
    """Judge a run and write the results; 1 where something wanted is not so."""
    run = runs.load(told.run).to(told.device)
    data, train = run.recipe.data, run.recipe.train
    if not isinstance(data, Emoji):
        raise SystemExit(f"{told.run} was not trained on emoji")
    examples = data.load()
    runs.check_data(run, examples)
    asked = questions(examples, data.split(examples, train.validation, train.seed), told.captions, told.seed)
    named = dataclasses.replace(data, captions="name").load()
    made = {side: draw(run, examples, rows, told) for side, rows in sides(asked).items()}
    found = measured(named, asked, made, told.seed)
    sampling = run.settings(steps=told.steps, guidance=told.guidance)
    found["run"] = {
        "steps": int(tensor_files.read_metadata(run.file)["step"]),
        "sampling": f"{sampling.sampler.kind}, {sampling.grid.steps} steps, guidance {sampling.guidance:g}",
        "asked": ", ".join(["caption", *_asked(run)]),
    }
    out = Path(told.out)
    write_text(out.with_suffix(".json"), lines(found))
    write_text(out.with_suffix(".md"), page(found, out.with_suffix(".png").name))
    _sheet(run, examples, named, asked, told, out.with_suffix(".png"))
    _publish(told, found)
    verdicts = wanted(found["sides"])
    print(*(f"{'yes' if so else 'NO'}: {what}" for what, so in verdicts), sep="\n")
    return 0 if all(so for _, so in verdicts) else 1


def _sheet(
    run: Run, examples: Examples, named: Examples, asked: Questions, told: argparse.Namespace, path: Path
) -> None:
    names, real, samples = [], [], []
    style = attribute(named, "style")
    for rows in sides(asked).values():
        some = rows[:ROWS]
        several = draw(run, examples, some.repeat(EACH), told, start=told.captions)
        names.append([f"{style.classes[style.values[row]]}: {named.texts[row]}" for row in some])
        real.append(examples.items[some])
        samples.append(several.reshape(len(some), EACH, *several.shape[1:]))
    with atomic(path) as temp:
        drawn(names, real, samples).save(temp)


def judge_real(told: argparse.Namespace) -> int:
    """Print what real pictures reach."""
    data = Emoji()
    examples = data.load()
    asked = questions(examples, data.split(examples, told.validation, 0), told.captions, told.seed)
    _publish(told, measured(examples, asked, {}, told.seed))
    return 0


def _publish(told: argparse.Namespace, found: dict[str, Any]) -> None:
    print(table(found["sides"]))
    if told.page:
        write_text(PAGE, filled(PAGE.read_text("utf-8"), {"figures": f"{said(found)}\n\n{table(found['sides'])}"}))


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one, other = commands.add_parser("judge"), commands.add_parser("real")
    one.add_argument("run")
    one.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "emoji"), help="without a suffix")
    one.add_argument("--steps", type=int, help="of the sampler; the run's own unless given")
    one.add_argument("--guidance", type=float, help="the run's own unless given")
    one.add_argument("--device", default="cpu", help="where samples are drawn, such as cuda")
    one.set_defaults(work=judge_run)
    other.add_argument("--validation", type=float, default=0.1)
    other.set_defaults(work=judge_real)
    for each in (one, other):
        each.add_argument("--captions", type=int, default=300, help="of each side, at the most")
        each.add_argument("--page", action="store_true", help="write the table of docs/emoji.md")
        each.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    return told.work(told)


if __name__ == "__main__":
    raise SystemExit(main())
