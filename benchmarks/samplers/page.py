"""The page in docs/, its picture, and the full tables in benchmarks/results/."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.publishing import about, filled
from benchmarks.samplers import report, special
from benchmarks.samplers.measure import Row, unpacked
from benchmarks.samplers.ours import CHOICES, DEFAULT, FITTED, GENERIC

PANELS = (
    ("d2-wide", "vp_linear"),
    ("d8", "flow"),
    ("d64", "edm"),
    ("d64-low-rank", "vp_cosine"),
    ("d8-guided", "vp_linear"),
    ("digits-guided", "flow"),
)


HEAD = """# Samplers, measured against their peers

Written by `python -m benchmarks.samplers` from what it measured; every table in full, with each peer's name, in
[benchmarks/results/samplers.md](../benchmarks/results/samplers.md).

The error of a sample is its distance, root mean square over coordinates, from the exact solution of the flow ODE
begun at the same noise and level. The mixtures have exact denoisers and data of variance 1; each library is told the
exact denoiser at exactly the level it believes to be at, and is judged against the solution of its own start. The
best peer is the best of more than a hundred settings of diffusers, k-diffusion and azula, chosen anew for each problem,
number of evaluations and figure (settings that begin at sigma / alpha below 50 are left out: they solve less than
the problem). Ratios are the peer's error over Reverie's: above 1, Reverie is closer."""


def rows_of(part: dict[str, Any] | None) -> list[Row]:
    """Rows as they were measured."""
    return [] if part is None else unpacked(part["rows"])


def write(parts: dict[str, dict[str, Any]], full: Path, page: Path, write_text: Callable[[Path, str], object]) -> None:
    """All there is."""
    mixtures, networks = rows_of(parts.get("errors")), rows_of(parts.get("networks"))
    both = mixtures + networks
    lines = [
        "# Samplers against their peers: all tables",
        "",
        "`python -m benchmarks.samplers`; the method is described in [the page](../../docs/samplers-benchmark.md).",
        "",
    ]
    for name, rows in (("errors", mixtures), ("networks", networks)):
        if rows:
            lines += [f"## {'Mixtures' if name == 'errors' else 'Trained networks'}", "", about(parts[name]), ""]
            for problem, start in report.problems(rows):
                doubt = parts[name]["reference"].get(f"{problem}, {start}", math.nan)
                lines += [
                    report.detail(rows, problem, start),
                    "",
                    f"The reference itself is off by less than {doubt:.0e}.",
                    "",
                ]
    if "convergence" in parts:
        lines += [
            "## Convergence",
            "",
            about(parts["convergence"]),
            "",
            report.convergence(parts["convergence"]["curves"]),
            "",
        ]
    if "timing" in parts:
        lines += ["## Timing", "", about(parts["timing"]), "", report.timing(parts["timing"]["timing"]), ""]
    write_text(full, "\n".join(lines))

    picture = page.parent / "pictures" / "samplers.png"
    shown = [p for p in PANELS if p in report.problems(both)]
    if shown:
        report.plot(both, picture, shown)
    choosing = page.with_name("choosing.md")
    if choosing.exists():
        write_text(choosing, filled(choosing.read_text(encoding="utf-8"), choices(parts)))
    if "faults" in parts and "convergence" in parts:
        from benchmarks.samplers import faults  # needs the peers

        found = parts["faults"]
        write_text(page.with_name("peers.md"), faults.page(found, parts["convergence"]["curves"], about(found)))
    write_text(page, "\n".join(summary(parts, mixtures, networks, bool(shown))))


GRIDS = {
    f"{method}, {grid}": f"{name}, {word}"
    for method, name in (("Adams 3", "`adams` of order 3"), ("DPM-Solver++ 3M", "`dpmpp_3m`"), ("DDIM", "`ddim`"))
    for grid, word in (("angle", "angle"), ("uniform", "uniform"), ("log-SNR", "log_snr"), ("Karras", "karras"))
}
"""The settings by which grids are compared."""


def choices(parts: dict[str, dict[str, Any]]) -> dict[str, str]:
    """The tables of docs/choosing.md, by the names of their places there."""
    mixtures, networks = rows_of(parts.get("errors")), rows_of(parts.get("networks"))
    made = {}
    if mixtures:
        plain = [r for r in mixtures if not r.problem.endswith("-guided")]
        guided = [r for r in mixtures if r.problem.endswith("-guided")]
        made = {
            "mixtures": about(parts["errors"]),
            "needed": report.needed(mixtures, CHOICES),
            "median": report.overall(plain, CHOICES, "median"),
            "rms": report.overall(plain, CHOICES, "rms"),
            "guided-median": report.overall(guided, CHOICES, "median"),
            "guided-rms": report.overall(guided, CHOICES, "rms"),
            "grids": report.overall(plain, GRIDS, "median"),
        }
    if networks:
        made["networks"] = about(parts["networks"]) + "".join(
            f"\n\n{name}, {word}:\n\n{report.overall(at_problem, CHOICES, metric)}"
            for name, start in report.problems(networks)
            for at_problem in [report.at(networks, problem=name, start=start)]
            for metric, word in (("median", "median"), ("rms", "root mean square"))
        )
    if "special" in parts:
        found = parts["special"]
        made["special"] = about(found)
        for name, rows, counts in (
            ("law", found["law"], special.BUDGETS), ("clipped", found["clipped"], special.CLIPPED_BUDGETS)
        ):  # fmt: skip
            cells = [[k, *(report.number(math.nan if e is None else e) for e in row)] for k, row in rows.items()]
            made[name] = report.table(["evaluations", *map(str, counts)], cells)
    return made


def summary(parts: dict[str, dict[str, Any]], mixtures: list[Row], networks: list[Row], picture: bool) -> list[str]:
    """The page."""
    lines = [
        HEAD,
        "",
    ]
    if picture:
        lines += ["![Median error against network evaluations](pictures/samplers.png)", ""]
    for title, part, rows in (("Exact mixtures", "errors", mixtures), ("Trained networks", "networks", networks)):
        if not rows:
            continue
        lines += [f"## {title}", "", about(parts[part]), ""]
        for role in (GENERIC, FITTED, DEFAULT):
            if report.ours(rows, role):
                lines += [
                    f"{report.ROLES[role].capitalize()}: the median over problems, and the least in brackets.",
                    "",
                    report.summary(rows, role),
                    "",
                ]
        for role in (GENERIC, FITTED):
            if report.ours(rows, role):
                for metric, word in (("rms", "RMS"), ("median", "median")):
                    lines += [
                        f"{word}, best peer over {report.ROLES[role]}, by evaluations:",
                        "",
                        report.by_start(rows, role, metric),
                        "",
                    ]
        if part == "errors":
            lines += ["The peers' settings that were best most often:", "", report.winners(rows), ""]
    if "timing" in parts:
        lines += [
            "## What the loop costs",
            "",
            about(parts["timing"])
            + " Trivial network, samples of 3x32x32, ms of processor time an evaluation, interleaved; ratios within "
            + "a round.",
            "",
            report.timing(parts["timing"]["timing"]),
            "",
        ]
    if "convergence" in parts:
        default = [c for c in parts["convergence"]["curves"] if c["library"] == "reverie" or c["default"]]
        lines += [
            "## Convergence",
            "",
            about(parts["convergence"])
            + " A smooth mixture, 5 to 1000 evaluations; order of the median error from 40 to 200.",
            "",
            report.convergence(default),
            "",
        ]
    return lines
