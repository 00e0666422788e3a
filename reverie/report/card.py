"""The model card: README.md with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie import config
from reverie.data import built_in
from reverie.evaluation.numbers import Evaluation
from reverie.report import bits, commands, sections, stopped, writing, yaml
from reverie.report.found import Found
from reverie.report.history import finite
from reverie.report.measured import drawn, measured_in, of_samples, ranked, value_of
from reverie.report.words import NONE, moment
from reverie.report.writing import plain
from reverie.runs import SAMPLES
from reverie.version import __version__

FILE = "README.md"
MARK = "Written by `reverie report`, which writes it again; delete this line to keep your own text."
"""A card without it is the user's, and is left alone."""
LIMITS = (
    "It makes {what} and nothing else, and only what is like its training data: what they lack it cannot make, and "
    "what is wrong with them it repeats. Nothing is known here of the licence of these data or of the people who may "
    "appear in them: whoever publishes the model must."
)


def card(found: Found) -> str:
    """The card of a run, every field filled from the run."""
    run, facts = found.run, found.run.facts
    classes = f", {len(run.classes)} classes" if run.classes else ""
    made = "images" if facts.image else "points in the plane" if facts.shape == (2,) else "arrays"
    what = f"{made} of shape {'x'.join(map(str, facts.shape))}{classes}"
    steps = list(found.sheets)
    torch = run.about.get("torch", "unknown")
    return writing.card(
        {
            "front": yaml.dump(front_matter(found)),
            "mark": MARK,
            "name": plain(found.name),
            "purpose": plain(sections.purpose(found)),
            "split": plain(sections.split(found)),
            "process": plain(sections.process(found)),
            "sampling": plain(sections.sampling(found)),
            "average": plain(run.average or ""),
            "early": plain(stopped.told(found)),
            "sheet": f"{SAMPLES}/{found.sheets[steps[-1]].name}" if steps else "",
            "sheet_step": f"{steps[-1]:,}" if steps else "",
            "parts": _parts(found),
            "sample_command": commands.with_run("sample", Path(found.name), "-n", "64", "--out", "samples.png"),
            "train_command": commands.train(run),
            "path": json.dumps(found.name),
            "gives": f"{'uint8' if facts.image else 'float32'}, of shape (16, {', '.join(map(str, facts.shape))})",
            "limits": LIMITS.format(what=what),
            "evaluations": [_evaluation(name, one) for name, one in ranked(found.evaluations)],
            "unmeasured": "No samples of it have been compared with real examples.",
            "likelihoods": _likelihoods(found),
            "audit": _audit(found),
            "made": f"Made with Reverie {run.about.get('reverie', 'unknown')} and torch {torch}, begun "
            f"{moment(run.about.get('created', 'at an unknown time'))}; this card by Reverie {__version__}.",
        }
    )


def _parts(found: Found) -> list[tuple[str, str]]:
    recipe = found.run.recipe
    parts = {
        "network": recipe.net, "process": recipe.schedule, "parameterization": recipe.parameterization,
        "loss": recipe.loss, "sampler": recipe.sample.sampler, "grid": recipe.sample.grid,
    }  # fmt: skip
    return [(name, plain(config.in_words(part))) for name, part in parts.items()]


# -------------------------------------------------------------------------------- front matter


def front_matter(found: Found) -> dict[str, Any]:
    """What the Hub reads; what the run does not know, such as a licence, is not there."""
    run, facts = found.run, found.run.facts
    unconditional = facts.image and not run.classes
    front: dict[str, Any] = {"library_name": "reverie"}
    if unconditional:
        front["pipeline_tag"] = "unconditional-image-generation"
    recipe = run.recipe
    assert recipe.net is not None
    tags = ["reverie", "diffusion", recipe.net.kind, recipe.schedule.kind]
    if facts.image and run.classes:
        tags.append("class-conditional-image-generation")
    front["tags"] = list(dict.fromkeys(tags))
    if recipe.data.kind in built_in():
        front["datasets"] = [recipe.data.kind]
    results = [*_results(found), *_bits(found)]
    if results:
        front["metrics"] = list(dict.fromkeys(m["type"] for r in results for m in r["metrics"]))
        front["model-index"] = [{"name": found.name, "results": results}]
    return front


def _task(found: Found) -> dict[str, str]:
    if not found.run.facts.image:
        return {"type": "other", "name": "generation of arrays"}
    if found.run.classes:
        return {"type": "class-conditional-image-generation", "name": "class-conditional image generation"}
    return {"type": "unconditional-image-generation", "name": "unconditional image generation"}


def _results(found: Found) -> list[dict[str, Any]]:
    """The main evaluation's result, the primary number first: the front matter sums up, the text has them all."""
    results = []
    for _, one in ranked(found.evaluations)[:1]:
        source = (one.protocol.get("reference") or {}).get("source")
        name = str(source or sections.source(found))
        metrics = [
            {
                "type": n.name, "name": measured_in(n), "value": n.value,
                "args": {"protocol": one.id} | ({"standard_error": n.error} if n.error is not None else {}),
            }
            for n in of_samples(one)
        ]  # fmt: skip
        if metrics:
            results.append({"task": _task(found), "dataset": {"name": name, "type": name}, "metrics": metrics})
    return results


def _bits(found: Found) -> list[dict[str, Any]]:
    """A result for each measurement of the likelihood."""
    results = []
    names = {"bound": "bits per dimension, variational bound", "ode": "bits per dimension, flow ODE"}
    for one in bits.measured(found):
        metrics = []
        for key, (value, error) in one.values.items():
            args = {} if error is None else {"standard_error": error}
            metrics.append({"type": "bits_per_dim", "name": names[key], "value": value, "args": args})
        if metrics:
            name = str(one.protocol.get("data") or sections.source(found))
            dataset = {"name": name, "type": found.run.recipe.data.kind}
            if one.protocol.get("split"):
                dataset["split"] = one.split
            results.append({"task": _task(found), "dataset": dataset, "metrics": metrics})
    return results


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# ---------------------------------------------------------------------------------------- body


def _evaluation(name: str, one: Evaluation) -> dict[str, Any]:
    made, real = (_table(one.protocol.get(key)) for key in ("samples", "reference"))
    about = ""
    if finite(made.get("n")) and finite(real.get("n")):
        about = f"{made['n']:,} samples beside {real['n']:,} of {real.get('source', 'the reference')}."
    rows = [
        [
            plain(cell)
            for cell in (n.title, n.extractor or NONE, value_of(n, n.value, n.error), value_of(n, n.floor), n.better)
        ]
        for n in of_samples(one)
    ]
    notes = [plain(f"{n.title}: {n.note}") for n in of_samples(one) if n.note]
    return {
        "name": plain(drawn(one)),
        "file": plain(name),
        "about": plain(about),
        "id": one.id,
        "rows": rows,
        "notes": list(dict.fromkeys(notes)),
    }


def _likelihoods(found: Found) -> list[list[str]]:
    known = [one for one in bits.measured(found) if one.values]
    return [[plain(c) for c in (o.name, o.split, o.examples, *map(o.said, bits.KEYS))] for o in known]


def _audit(found: Found) -> str:
    if not found.audits:
        return "Nobody has looked yet."
    verdict = list(found.audits.values())[-1].verdict
    return f"**{plain(verdict.word)}**: {plain(verdict.why)}"
