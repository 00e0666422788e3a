"""metrics.jsonl: one object a line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reverie.files import write_text


def append(path: Path, line: Mapping[str, object]) -> None:
    """Add a line; numbers that are not finite become null.

    Raises:
        OSError: the disk is full or cannot be written.
    """
    text = json.dumps(line, default=str)
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        text = json.dumps({k: None if isinstance(v, float) and v - v != 0 else v for k, v in line.items()}, default=str)
    with path.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a metrics file; a last line cut short by a kill is left out."""
    found: list[dict[str, Any]] = []
    if not path.exists():
        return found
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found


def rewind(path: Path, step: int) -> None:
    """Drop the lines after `step`, which a resumed run writes again."""
    kept = [line for line in lines(path) if int(str(line.get("step", 0))) <= step]
    if path.exists():
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
