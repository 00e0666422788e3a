"""`reverie doctor`."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from reverie.doctor import Finding

HELP = """Check that diffusion works here: the mathematics, this device and precision, and a run if one is named.

Schedules, samplers, guidance, noise and likelihoods are checked against exact answers, networks on the device against
float64 on the CPU. Of a run: its files and their hashes, its average, where its sampling starts, its samples, a step
of its training; and, if it is made of several models, which of its stages is at fault. Nothing in its folder is
changed. No data but the run's and no network access are needed.

A row each: what was checked, what was expected, what was seen, ok or FAIL. The exit code is 1 if anything fails.

Examples:

  reverie doctor

  reverie doctor runs/digits --only run

  reverie doctor runs/digits --only network,run --precision bf16 --json
"""
HEADINGS = ("", "", "what", "expected", "seen")
WIDTHS = (4, 13, 46, 45, 52)
"""Of the columns; on a narrower page, what was expected and seen stand below what was checked."""
GAP = "  "


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="doctor", help=HELP)(doctor)


def doctor(
    run: Annotated[Path | None, typer.Argument(help="A run folder, to be looked at as well.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the fastest there is if left out.")] = None,
    precision: Annotated[str, typer.Option(help="no, bf16 or fp16, as train.precision.")] = "no",
    only: Annotated[
        str | None,
        typer.Option(
            help="With commas: schedules, notations, samplers, guidance, noise, likelihood, network, parallel, run, "
            "stages."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Look, print a row for each finding, and say how many failed."""
    import torch

    from reverie.devices import usable
    from reverie.doctor import examine

    where, began = usable(device), time.perf_counter()
    groups = [] if only is None else [word.strip() for word in only.split(",")]
    found = examine(where, run, precision, groups)
    about = {
        "reverie": __version__,
        "torch": torch.__version__,
        "machine": platform.platform(),
        "device": where,
        "precision": precision,
        "threads": torch.get_num_threads(),
    }
    if as_json:
        findings = list(found)
        rows = [{**asdict(f), "verdict": f.verdict} for f in findings]
        failed = sum(f.ok is False for f in findings)
        print(json.dumps({"about": about, "ok": not failed, "findings": rows}, indent=2))
    else:
        print(_wrapped(", ".join(f"{key} {value}" for key, value in about.items()), below=GAP))
        findings = _shown(found)
        failed = sum(f.ok is False for f in findings)
        told = f"{failed} of {len(findings)} checks failed" if failed else f"{len(findings)} checks, none failed"
        print(f"{told}, {time.perf_counter() - began:.0f} s")
    if failed:
        sys.exit(1)


def _shown(found: Iterable[Finding]) -> list[Finding]:
    """Print the findings as they come: in columns where the page is wide enough for them, else in two lines each."""
    from rich.console import Console

    console, findings = Console(highlight=False), []
    if _fits():
        _row(console, "bold", HEADINGS)
    for finding in found:
        findings.append(finding)
        colour = {True: "green", False: "bold red", None: "dim"}[finding.ok]
        _row(console, colour, (finding.verdict, finding.group, finding.check, finding.expected, finding.seen))
        if finding.ok is False and finding.advice:
            print(_wrapped(finding.advice, 6 * " ", 6 * " "), flush=True)
    return findings


def _row(console: Console, colour: str, cells: Sequence[str]) -> None:
    from rich.text import Text

    columns = GAP.join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()
    if not _fits():
        verdict, group, check, expected, seen = cells
        margin = GAP.join(width * " " for width in WIDTHS[:2]) + GAP
        start = GAP.join(f"{cell:{width}}" for cell, width in zip((verdict, group), WIDTHS, strict=False)) + GAP
        below = _wrapped(f"expected {expected}; seen {seen}", margin, margin)
        columns = f"{_wrapped(check, start, margin)}\n{below}"
    line = Text(columns)
    line.stylize(colour, 0, len(cells[0]) or len(columns))
    console.print(line, soft_wrap=True)


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def _fits() -> bool:
    """Whether a row fits on one line."""
    return _width() >= sum(WIDTHS) + len(GAP) * (len(WIDTHS) - 1)


def _wrapped(text: str, first: str = "", below: str = "") -> str:
    """A text in lines of the page's width, with these margins."""
    return textwrap.fill(
        text, _width(), initial_indent=first, subsequent_indent=below, break_long_words=False, break_on_hyphens=False
    )
