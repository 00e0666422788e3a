"""How solvers converge: observed order, where the error rises again, and the floor it comes to.

On one two-dimensional mixture of components so wide that no sample comes near a divide between them: there a
single sample decides the error, and Euler's method seems to be of order 2. Every
deterministic sampler of Reverie on grids that are smooth in the step's number, and the peers on theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.samplers.measure import Row, run
from benchmarks.samplers.peers_base import Setting
from benchmarks.samplers.problems import STARTS, Mixture, mixture

KIND = Mixture("d2-smooth", 2, 3, 0.7, n=32)
BUDGETS = (5, 6, 7, 8, 10, 12, 14, 15, 16, 20, 24, 30, 40, 50, 64, 80, 128, 200, 256, 400, 512, 1000)
PEERS_FROM = ("vp_linear", "vp_cosine", "flow")
"""Starts from which the peers are run too."""

BETWEEN = (40, 200)
"""Where the order is read off."""

FLOOR = 1e-7
"""Below, the error is the reference's."""


@dataclass(frozen=True)
class Curve:
    """A setting's errors over `BUDGETS`, from one start."""

    library: str
    method: str
    default: bool
    start: str
    declared: int | None
    rms: dict[int, float]
    median: dict[int, float]
    order: float
    """Minus the slope of log median error over log evaluations, by least squares over those in `BETWEEN` that
    are above the floor; where fewer than three are, over the last five above it."""
    rise: float
    """The largest factor by which the error at a number of evaluations exceeds the least at fewer."""
    rise_at: int
    floor: float
    """The least error."""
    failures: dict[int, str]
    """By evaluations, what was raised."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def slope(points: Sequence[tuple[int, float]]) -> float:
    """The observed order: minus the least-squares slope of log error over log evaluations."""
    logs = [(math.log(n), math.log(e)) for n, e in points]
    if len(logs) < 2:
        return math.nan
    mean_n, mean_e = (sum(v[i] for v in logs) / len(logs) for i in (0, 1))
    return -sum((n - mean_n) * (e - mean_e) for n, e in logs) / sum((n - mean_n) ** 2 for n, _ in logs)


def curve(setting: Setting, start: str, rows: Iterable[Row], declared: int | None) -> Curve:
    """From the rows of one setting."""
    rows = list(rows)
    good = {r.evaluations: r.rms for r in rows if not r.failure}
    middle = {r.evaluations: r.median for r in rows if not r.failure}
    points = sorted(good.items())
    above = [(n, e) for n, e in sorted(middle.items()) if e > 30 * FLOOR]
    inside = [(n, e) for n, e in above if BETWEEN[0] <= n <= BETWEEN[1]]
    steepest = inside if len(inside) > 2 else above[-5:]
    worst, at, least = 0.0, 0, math.inf
    for n, e in points:
        if least < math.inf and e / least > worst and e > 10 * FLOOR:
            worst, at = e / least, n
        least = min(least, e)
    floor = min(good.values(), default=math.nan)
    failures = {r.budget: r.failure for r in rows if r.failure and not r.failure.endswith("too few")}
    return Curve(
        setting.library,
        setting.name,
        setting.default,
        start,
        declared,
        good,
        middle,
        slope(steepest),
        worst,
        at,
        floor,
        failures,
    )


def curves(settings: Iterable[tuple[Setting, int | None]], seed: int) -> list[Curve]:
    """Every setting, from every start it serves."""
    found = []
    for start in STARTS:
        problem = mixture(KIND, start, seed)
        for setting, declared in settings:
            if start in setting.starts and (setting.library == "reverie" or start in PEERS_FROM):
                rows = [run(setting, problem, n) for n in BUDGETS]
                found.append(curve(setting, start, rows, declared))
    return found
