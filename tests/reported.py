"""Runs with all that a report shows, small and made by hand where measuring would take time."""

import json
from pathlib import Path

from toys import copied

from reverie.audit.findings import Audit, Copy, Finding, Level, Verdict
from reverie.evaluation.numbers import Evaluation, LeftOut, Number

EVIL = "<script>alert(\"x\")</script> & 'it' | `b` $y$"
"""A name that means something in HTML, Markdown, YAML and TeX."""


def evaluation(fid: float = 12.3456, sets: int = 3, n: int = 300) -> Evaluation:
    protocol = {
        "samples": {"source": "samples of run", "n": n, "seed": 0},
        "reference": {"source": "digits, train", "n": 1617},
        "extractors": [{"kind": "pixels", "digest": "0123"}],
        "sets": sets,
    }
    numbers = (
        Number("fid", "FID", fid, "pixels", error=0.1234, floor=3.25, floor_n=180, note="biased upward"),
        Number("recall", "recall", 0.875, "pixels", better="higher", unit="%", error=0.0123, floor=0.98),
    )
    left_out = (LeftOut("kid", "too few samples", "classifier"),)
    return Evaluation(protocol, numbers, left_out, {"date": "2026-11-21T10:00:00+00:00", "device": "cpu"})


def audit(word: str = "no sign of memorising") -> Audit:
    return Audit(
        Verdict(word, "none of 4 tests"),
        {"n": 300, "level": 0.01},
        (
            Finding("near_copies", "near-copies", 0.012, 300, "pixels", 0.01, 0.004, 0.03, 0.4, 0.8, unit="%"),
            Finding("membership", "membership", 0.51, 180, expected=0.5, note="AUC"),
        ),
        (Copy(3, 17, 0.01, 0.2, "pixels"),),
        (Level(0.5, 0.4, 0.41, 0.01, 0.005, 0.52, 0.49, 0.55, 0.3),),
    )


def write(path: Path, data: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def full(to: Path, *settings: str, found: Evaluation | None = None) -> Path:
    """A copy of a toy run with an evaluation, a likelihood, an audit, and numbers from its training."""
    run = copied(to, *settings)
    write(run / "evaluation" / "first.json", (found or evaluation()).to_data())
    protocol = {"data": "digits", "split": "validation", "examples": "32 of 180"}
    bits = {"bits_per_dim": 2.3456, "standard_error": 0.0123}
    write(run / "likelihood" / "digits-n32.json", {"protocol": protocol, "bound": bits})
    write(run / "audit" / "n300.json", audit().to_data())
    with (run / "metrics.jsonl").open("a") as file:
        for step, value in ((6, 40.0), (12, 30.0)):
            told = {"metric": "FID", "value": value, "step": step, "protocol": "ab12cd34"}
            file.write(json.dumps({"step": step, "evaluation": told}) + "\n")
    return run


def renamed(run: Path, index: int, name: str) -> None:
    """Give a class of a run another name."""
    data = json.loads((run / "config.json").read_text())
    data["facts"]["classes"][index] = name
    (run / "config.json").write_text(json.dumps(data))
