"""How benchmarks publish: where and when something was measured, JSON for diffs, tables in their places in a page."""

from __future__ import annotations

import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent


def provenance(libraries: Sequence[str], seed: int) -> dict[str, Any]:
    """Date, commit (with a + where the package differs from it), machine and versions of `libraries`."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "reverie") else ""),
        "machine": names[0].partition(": ")[2] if names else platform.processor(),
        "versions": {name: version(name) for name in libraries},
        "seed": seed,
        "threads": torch.get_num_threads(),
    }


def about(part: Mapping[str, Any]) -> str:
    """What `provenance` said of a part, in a line."""
    a = part["about"]
    versions = ", ".join(f"{k} {v}" for k, v in a["versions"].items())
    threads = "1 thread" if a["threads"] == 1 else f"{a['threads']} threads"
    return f"{a['date']}, commit {a['commit']}, {a['machine']}, {threads}, seed {a['seed']}; {versions}."


def lines(found: dict[str, Any]) -> str:
    """JSON with a line for each entry of a list, for diffs; it has no nan, so null stands for it."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    def shown(value: Any) -> str:  # noqa: ANN401
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(json.dumps(v, allow_nan=False) for v in value) + "\n]"
        return json.dumps(value, allow_nan=False)

    return "{\n" + ",\n".join(f"{json.dumps(k)}: {shown(v)}" for k, v in plain(found).items()) + "\n}\n"


def filled(text: str, tables: Mapping[str, str]) -> str:
    """`text` with the tables in their places, `<!-- table NAME: written by ... -->` to `<!-- end -->`.

    Raises:
        ValueError: a table without a place, or with several.
    """
    for name, made in tables.items():
        place = re.compile(rf"(<!-- table {re.escape(name)}: [^\n]* -->\n).*?(<!-- end -->\n)", re.DOTALL)
        text, found = place.subn(lambda m, made=made: f"{m[1]}\n{made}\n\n{m[2]}", text)
        if found != 1:
            raise ValueError(f"the page has {found} places for the table {name!r}; it needs one")
    return text
