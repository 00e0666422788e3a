"""metrics.jsonl: one object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.files import write_text


def append(path: Path, line: Mapping[str, object]) -> None:
    """Add a line; numbers that are not finite become null.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    text = json.dumps(_finite(line), default=str, allow_nan=False)
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def _finite(value: object) -> object:
    """`value` with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a metrics file that belong to a step.

    A line that is none is left out: the last may have been cut short by a kill.
    """
    found: list[dict[str, Any]] = []
    if not path.exists():
        return found
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and type(line.get("step")) is int:
            found.append(line)
    return found


def rewind(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run writes again."""
    kept = [line for line in lines(path) if line["step"] <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
