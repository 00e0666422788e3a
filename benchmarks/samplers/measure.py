"""Run settings on problems and measure their distance from the exact samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.samplers.peers_base import Setting
from benchmarks.samplers.problems import Problem
from benchmarks.samplers.reference import Asked, distance, reference

NOISE = 50.0
"""sigma / alpha from which on a start counts as noise, for data of standard deviation about 1."""


@dataclass(frozen=True)
class Row:
    """One setting on one problem with at most `budget` evaluations."""

    problem: str
    start: str
    library: str
    method: str
    default: bool
    budget: int
    evaluations: int
    rms: float
    """Root mean square over the samples of their distance from the exact ones."""
    median: float
    start_ratio: float = math.nan
    """sigma / alpha where it began."""
    failure: str = ""
    """Why there is no sample."""

    @property
    def comparable(self) -> bool:
        """Whether there are samples, begun in what is nearly pure noise.

        Some spacings of some libraries begin far below: what they follow from there is less than the
        problem, and their start, sigma times noise, is not what the process holds there.
        """
        return not self.failure and self.start_ratio >= NOISE


def run(setting: Setting, problem: Problem, budget: int) -> Row:
    """Measure; what a library raises is written down, not raised."""
    ask, who = Asked(problem), (problem.name, problem.start, setting.library, setting.name, setting.default, budget)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = setting.run(ask, problem.noise, problem.start, budget)
    except Exception as error:  # a peer may raise anything
        return Row(*who, ask.calls, math.nan, math.nan, math.nan, f"{type(error).__name__}: {error}"[:200])
    assert ask.calls <= budget, f"{setting.label} took {ask.calls} evaluations for {budget}"
    exact = reference(problem, found.alpha, found.sigma)
    off = distance(found.x.double(), exact)
    ratio = min(found.sigma / found.alpha, 1e9) if found.alpha > 0 else 1e9
    if not bool(off.isfinite().all()):
        return Row(*who, ask.calls, math.nan, math.nan, ratio, "not finite")
    return Row(*who, ask.calls, float(off.square().mean().sqrt()), float(off.median()), ratio)


def sweep(settings: Iterable[Setting], problem: Problem, budgets: Iterable[int]) -> list[Row]:
    """All that serve the problem's start, at every budget."""
    return [run(s, problem, n) for s in settings if problem.start in s.starts for n in budgets]


LINE = ("problem", "start", "library", "method", "default")
COLUMNS = ("budget", "evaluations", "rms", "median", "start_ratio", "failure")


def kept(rows: Sequence[Row], best: int = 3) -> list[Row]:
    """Ours, the peers' defaults, and every setting among the `best` of a problem at some number of evaluations."""
    chosen = {id(r) for r in rows if r.library == "reverie" or r.default}
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for r in rows:
        if r.library != "reverie" and r.comparable:
            groups.setdefault((r.problem, r.start, r.budget), []).append(r)
    for group in groups.values():
        for metric in ("rms", "median"):
            chosen |= {id(r) for r in sorted(group, key=lambda r, m=metric: getattr(r, m))[:best]}
    lines = {tuple(getattr(r, k) for k in LINE) for r in rows if id(r) in chosen}
    return [r for r in rows if tuple(getattr(r, k) for k in LINE) in lines]


def packed(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """For JSON: a line a setting, a column a figure, four digits."""
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for r in rows:
        key = tuple(getattr(r, k) for k in LINE)
        line = lines.setdefault(key, dict(zip(LINE, key, strict=True)) | {c: [] for c in COLUMNS})
        for c in COLUMNS:
            value = getattr(r, c)
            if isinstance(value, float):
                value = None if math.isnan(value) else float(f"{value:.4g}")
            line[c].append(value)
    return list(lines.values())


def unpacked(lines: Iterable[dict[str, Any]]) -> list[Row]:
    """What `packed` wrote."""
    found = []
    for line in lines:
        for values in zip(*(line[c] for c in COLUMNS), strict=True):
            read = {c: math.nan if v is None else v for c, v in zip(COLUMNS, values, strict=True)}
            found.append(Row(**{k: line[k] for k in LINE}, **read))
    return found
