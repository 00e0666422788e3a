"""Which evaluation in training is the best so far, by the lines of metrics.jsonl, and the weights that are kept for it.

    {"step": 700, "evaluation": {"metric": "kid", "value": 0.0123, "best": true, "protocol": "1f0c26ab", ...}}

The lines decide, so that a run that was killed and resumed keeps what the uninterrupted one keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reverie.runs import BEST, METRICS, STATE, Run
from reverie.tensor_files import read_metadata, read_with_metadata
from reverie.training import log, state

KEY = "evaluation"
"""Under which an evaluation stands in its line."""
TOLD = ("metric", "extractor", "value", "error", "protocol")
"""What the file of the best weights says of the evaluation."""

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Past:
    """Evaluations by one protocol, oldest first: those that can be compared.

    Attributes:
        lines: what stands in metrics.jsonl under `KEY`, with its `step`.
        lower: whether a lower value is better.
    """

    lines: tuple[Line, ...] = ()
    lower: bool = True

    @property
    def best(self) -> Line | None:
        """The best of them, the first of several; None where none has a value."""
        return next((line for line in reversed(self.lines) if line.get("best") is True), None)

    @property
    def since(self) -> int:
        """How many came after the best."""
        flags = [line.get("best") is True for line in reversed(self.lines)]
        return flags.index(True) if True in flags else len(flags)

    def improves(self, value: float | None) -> bool:
        """Whether a value is better than all of them."""
        best = self.best
        if value is None or best is None:
            return value is not None
        return value < best["value"] if self.lower else value > best["value"]


def evaluations(run: Run, step: int) -> list[Line]:
    """Those of a run up to a step, oldest first."""
    lines = log.lines(run.path / METRICS)
    return [{**line[KEY], "step": line["step"]} for line in lines if line["step"] <= step and _is_whole(line.get(KEY))]


def _is_whole(told: object) -> bool:
    """Whether it is what an evaluation writes, so far as it is needed here."""
    return isinstance(told, dict) and (told.get("value") is None or type(told["value"]) in (int, float))


def newest(lines: Sequence[Line], protocol: str, lower: bool) -> Past:
    """The last ones that are of this protocol: where settings have changed, what came before is forgotten."""
    others = [i for i, line in enumerate(lines) if line.get("protocol") != protocol]
    return Past(tuple(lines[others[-1] + 1 if others else 0 :]), lower)


def keep(run: Run, weights: state.Tensors, line: Line) -> str:
    """Write averaged weights as the best, with what the line says of them; in words, what became of those before.

    Those that were the best by another protocol were never compared with these, and are kept under another name.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    said = _set_aside(run, str(line.get("protocol")))
    run.save_best(weights, line["step"], {key: str(line.get(key)) for key in TOLD})
    return said


def _set_aside(run: Run, protocol: str) -> str:
    """Rename the best weights where they are by another protocol; in words, if so."""
    path = run.path / BEST
    try:
        told = read_metadata(path)
    except ValueError:
        return ""
    before, step = told.get("protocol", protocol), told.get("step", "")
    if before == protocol:
        return ""
    aside = path.with_name(f"{path.stem}-{step}-{before}{path.suffix}")
    path.rename(aside)
    return f"evaluations are by another protocol now; the best weights by the one before, of step {step}, are {aside}"


def mend(run: Run, step: int) -> str:
    """Make the file of the best weights that of the lines up to `step`; in words, what was done, if anything.

    A kill may fall between line and file, and a damaged state may undo the step that the file is of.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    path = run.path / BEST
    line = next((line for line in reversed(evaluations(run, step)) if line.get("best") is True), None)
    kept = _step_of(run)
    if (line is None and (kept is None or 0 <= kept <= step)) or (line is not None and kept == line["step"]):
        return ""
    if line is not None:
        try:
            said = keep(run, state.read(run.path / STATE / f"{line['step']:08d}").files[state.AVERAGE], line)
        except ValueError:
            pass
        else:
            return f"restored {path} from the saved state" + (f"; {said}" if said else "")
    if kept is None or 0 <= kept <= step:
        return ""
    path.unlink()
    why = "is damaged" if kept < 0 else f"is of step {kept}, which is undone"
    return f"{path} {why}, and is removed; the next evaluation that is better than those before writes it again"


def _step_of(run: Run) -> int | None:
    """The step of the best weights; None where there are none, -1 where they are damaged."""
    path = run.path / BEST
    if not path.is_file():
        return None
    try:
        return int(read_with_metadata(path)[1].get("step", "-1"))
    except ValueError:
        return -1
