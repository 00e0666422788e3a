"""What a run wrote while it trained, as series over the steps.

Letters in shapes: K validations, L shares of the noise levels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from reverie.runs import METRICS

MOST = 400
"""Points of a curve; of more, neighbours are averaged."""


@dataclass(frozen=True)
class Damage:
    """A piece of a run that could not be read, and why, in words."""

    where: str
    why: str


@dataclass(frozen=True)
class Series:
    """One quantity over the steps, finite numbers only."""

    steps: tuple[int, ...] = ()
    values: tuple[float, ...] = ()

    def __len__(self) -> int:
        """Points."""
        return len(self.steps)

    def thinned(self, most: int = MOST) -> Series:
        """At most `most` points, each the mean of as many neighbours."""
        size = math.ceil(len(self) / most)
        if size <= 1:
            return self
        parts = [slice(i, i + size) for i in range(0, len(self), size)]
        return Series(
            tuple(self.steps[p][-1] for p in parts), tuple(sum(self.values[p]) / len(self.values[p]) for p in parts)
        )


@dataclass(frozen=True)
class Levels:
    """The held-out loss of one validation by noise level: `values[i]` lies between `bounds[i]` and `bounds[i + 1]`."""

    step: int
    bounds: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Judged:
    """One quantity of the evaluations during training, by one protocol."""

    metric: str
    protocol: str
    series: Series
    errors: tuple[float, ...] = ()
    """Standard errors of the values, 0 where they are unknown; empty where all are."""
    floor: float | None = None
    """The same number of real examples."""
    best: int | None = None
    """The step of the best one."""
    extractor: str = ""
    n: int | None = None
    """Samples of each."""


@dataclass(frozen=True)
class History:
    """The lines of metrics.jsonl that are whole."""

    lines: tuple[Mapping[str, Any], ...] = ()
    damage: tuple[Damage, ...] = ()

    def series(self, name: str) -> Series:
        """The quantity of that name."""
        found = {line["step"]: line[name] for line in self.lines if finite(line.get(name))}
        return _series(found)

    @property
    def last_step(self) -> int:
        """The newest step of which there is a line; 0 where there is none."""
        return max((line["step"] for line in self.lines), default=0)

    @property
    def levels(self) -> tuple[Levels, ...]:
        """The validations (K, L)."""
        found = []
        for line in self.lines:
            values, bounds = _numbers(line.get("by_level")), _numbers(line.get("t_bounds"))
            if values and len(bounds) == len(values) + 1:
                found.append(Levels(line["step"], bounds, values))
        return tuple(found)

    @property
    def evaluations(self) -> tuple[Judged, ...]:
        """The evaluations during training, a quantity and a protocol each."""
        found: dict[tuple[str, str], dict[int, float]] = {}
        for line in self.lines:
            for told in _tables(line.get("evaluation")):
                if not finite(told.get("value")):
                    continue
                metric, protocol = (str(told.get(key) or "") for key in ("metric", "protocol"))
                step = told.get("step")
                step = step if type(step) is int else line["step"]
                found.setdefault((metric or "evaluation", protocol), {})[step] = told["value"]
        return tuple(self._judged(*key, _series(values)) for key, values in found.items())

    def _judged(self, metric: str, protocol: str, series: Series) -> Judged:
        """What else the lines say of evaluations."""
        mine = []
        for line in self.lines:
            for told in _tables(line.get("evaluation")):
                if (str(told.get("metric") or "") or "evaluation", str(told.get("protocol") or "")) == (
                    metric,
                    protocol,
                ):
                    mine.append({"step": line["step"], **told})
        errors = {one["step"]: one["error"] for one in mine if finite(one.get("error"))}
        floors = [one["floor"] for one in mine if finite(one.get("floor"))]
        best = [one["step"] for one in mine if one.get("best") is True]
        known = [line["protocol"] for line in self.lines if isinstance(line.get("protocol"), dict)]
        counts = [
            t["samples"].get("n") for t in known if t.get("id") == protocol and isinstance(t.get("samples"), dict)
        ]
        return Judged(
            metric,
            protocol,
            series,
            tuple(float(errors.get(step, 0.0)) for step in series.steps) if errors else (),
            floors[-1] if floors else None,
            best[-1] if best else None,
            str(mine[-1].get("extractor") or "") if mine else "",
            next((n for n in counts if type(n) is int), None),
        )

    @property
    def seconds(self) -> float | None:
        """How long the steps took, from the speed that was measured; None where it was not."""
        total, before, told = 0.0, 0, False
        for line in self.lines:
            speed = line.get("steps_per_second")
            if finite(speed) and speed > 0 and line["step"] > before:
                total, before, told = total + (line["step"] - before) / speed, line["step"], True
        return total if told else None


def finite(value: object) -> TypeGuard[float]:
    """Whether a value is a number, no infinity or NaN, and not too large for a float."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def read(folder: Path) -> History:
    """The history of a run folder; lines that cannot be read are named."""
    path = folder / METRICS
    if not path.is_file():
        return History()
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return History(damage=(Damage(METRICS, error.strerror or str(error)),))
    found, wrong = [], []
    for number, written in enumerate(text.splitlines(), 1):
        try:
            line = json.loads(written)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and type(line.get("step")) is int:
            found.append(line)
        elif written.strip():
            wrong.append(number)
    return History(tuple(found), tuple([_wrong(wrong)] if wrong else []))


def _wrong(lines: Sequence[int]) -> Damage:
    shown = ", ".join(map(str, lines[:5])) + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")
    one = len(lines) == 1
    return Damage(METRICS, f"line{'' if one else 's'} {shown} {'is' if one else 'are'} no measurement and left out")


def _series(found: Mapping[int, float]) -> Series:
    steps = sorted(found)
    return Series(tuple(steps), tuple(float(found[s]) for s in steps))


def _numbers(value: object) -> tuple[float, ...]:
    """A list of finite numbers; none where it is something else."""
    if not isinstance(value, list) or not all(finite(v) for v in value):
        return ()
    return tuple(float(v) for v in value)


def _tables(value: object) -> list[Mapping[str, Any]]:
    """A table, or those of a list."""
    several = value if isinstance(value, list) else [value]
    return [v for v in several if isinstance(v, dict)]
