"""Tables, a plot and their page, from what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.samplers.measure import Row
from benchmarks.samplers.ours import DEFAULT, FITTED, GENERIC
from benchmarks.samplers.problems import STARTS

Rows = Sequence[Row]
Metric = str
ROLES = {GENERIC: "shipped grid", FITTED: "fitted grid", DEFAULT: "default of `reverie sample`"}
CLAIMED = (5, 8, 10, 15, 20)
"""Numbers of evaluations shown in summaries."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Markdown; the first `left` columns to the left, the others to the right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def number(e: float) -> str:
    """Two digits."""
    return "–" if math.isnan(e) else f"{e:.1e}".replace("e-0", "e-") if e < 1 else f"{e:.2g}"


def ratio(r: float) -> str:
    """Two digits; below 1 the peer is ahead."""
    return "–" if math.isnan(r) else f"{r:.2f}" if r < 1 else f"{r:.1f}" if r < 10 else f"{r:.0f}"


def least(rows: Rows, metric: Metric) -> Row | None:
    """The row with the least error."""
    return min((r for r in rows if r.comparable), key=lambda r: getattr(r, metric), default=None)


def peers(rows: Rows) -> list[Row]:
    """Those of other libraries."""
    return [r for r in rows if r.library != "reverie"]


def ours(rows: Rows, role: str) -> Row | None:
    """The row of ours in a role."""
    return next((r for r in rows if r.library == "reverie" and r.method == role and not r.failure), None)


def at(rows: Rows, **where: Any) -> list[Row]:  # noqa: ANN401
    """Rows whose fields are these."""
    return [r for r in rows if all(getattr(r, k) == v for k, v in where.items())]


def ratios(rows: Rows, role: str, metric: Metric, defaults: bool = False) -> float:
    """The best peer's error over ours, on rows of one problem, start and budget."""
    best, mine = least([r for r in peers(rows) if r.default or not defaults], metric), ours(rows, role)
    return math.nan if best is None or mine is None else getattr(best, metric) / getattr(mine, metric)


def problems(rows: Rows) -> list[tuple[str, str]]:
    """Names in the order first measured, and each one's starts."""
    names = list(dict.fromkeys(r.problem for r in rows))
    found = {(r.problem, r.start) for r in rows}
    return [(name, start) for name in names for start in STARTS if (name, start) in found]


def budgets(rows: Rows) -> list[int]:
    """Numbers of evaluations."""
    return sorted({r.budget for r in rows})


def detail(rows: Rows, name: str, start: str) -> str:
    """One problem from one start: the best peer, and ours, by evaluations."""
    head = ["evaluations", "best peer, RMS", "", "best peer, median", ""]
    roles = [role for role in ROLES if ours(at(rows, problem=name, start=start), role)]
    for role in roles:
        head += [f"{ROLES[role]}: RMS", "ratio", "median", "ratio"]
    lines = []
    for n in budgets(at(rows, problem=name, start=start)):
        here = at(rows, problem=name, start=start, budget=n)
        line = [str(n)]
        for metric in ("rms", "median"):
            best = least(peers(here), metric)
            line += ["–", ""] if best is None else [number(getattr(best, metric)), f"{best.library} {best.method}"]
        for role in roles:
            mine = ours(here, role)
            for metric in ("rms", "median"):
                value = math.nan if mine is None else getattr(mine, metric)
                line += [number(value), ratio(ratios(here, role, metric))]
        lines.append(line)
    return f"### {name}, {start}\n\n" + table(head, lines)


def spread(values: Sequence[float]) -> str:
    """Median, and the least in brackets."""
    known = [v for v in values if not math.isnan(v)]
    return f"{ratio(median(known))} ({ratio(min(known))})" if known else "–"


def summary(rows: Rows, role: str, keep: Callable[[str, str], bool] = lambda name, start: True) -> str:
    """Ratios by evaluations: the median over problems, and the least."""
    lines = []
    chosen = [p for p in problems(rows) if keep(*p)]
    for n in CLAIMED:
        here = [at(rows, problem=name, start=start, budget=n) for name, start in chosen]
        line = [str(n)]
        for defaults in (False, True):
            line += [spread([ratios(h, role, m, defaults) for h in here]) for m in ("rms", "median")]
        lines.append(line)
    head = ["evaluations", "RMS, best peer", "median, best peer", "RMS, best default", "median, best default"]
    return table(head, lines)


def by_start(rows: Rows, role: str, metric: Metric) -> str:
    """Ratios to the best peer by problem (rows) and start and evaluations (columns)."""
    pairs = problems(rows)
    lines = [
        [f"{name}, {start}"]
        + [ratio(ratios(at(rows, problem=name, start=start, budget=n), role, metric)) for n in CLAIMED]
        for name, start in pairs
    ]
    return table(["problem, start", *map(str, CLAIMED)], lines)


def winners(rows: Rows) -> str:
    """How often each peer was the best, over problems, starts and evaluations."""
    count: dict[str, list[int]] = {}
    for name, start in problems(rows):
        for n in budgets(rows):
            here = at(rows, problem=name, start=start, budget=n)
            for i, metric in enumerate(("rms", "median")):
                best = least(peers(here), metric)
                if best is not None:
                    count.setdefault(f"{best.library} {best.method}", [0, 0])[i] += 1
    ranked = sorted(count.items(), key=lambda item: -sum(item[1]))[:15]
    return table(["setting", "best by RMS", "best by median"], [[k, str(a), str(b)] for k, (a, b) in ranked])


def overall(rows: Rows, names: dict[str, str], metric: Metric) -> str:
    """The median over problems of our settings' errors, by evaluations; those that were measured on all problems."""
    mine, counts = at(rows, library="reverie"), budgets(rows)
    lines = []
    for method, name in names.items():
        errors = [_over_problems(at(mine, method=method, budget=n), len(problems(rows)), metric) for n in counts]
        if not all(map(math.isnan, errors)):
            lines.append([name, *map(number, errors)])
    return table(["evaluations", *map(str, counts)], lines)


def _over_problems(rows: Rows, count: int, metric: Metric) -> float:
    known = [getattr(r, metric) for r in rows if not r.failure]
    return median(known) if known and len(known) == count else math.nan


def needed(rows: Rows, names: dict[str, str], goals: Sequence[float] = (0.1, 0.03, 0.01, 0.003, 0.001)) -> str:
    """From how many evaluations on the median error, as in `overall`, is below a goal, of those measured."""
    mine, counts = at(rows, library="reverie"), budgets(rows)
    lines = []
    for method, name in names.items():
        errors = [_over_problems(at(mine, method=method, budget=n), len(problems(rows)), "median") for n in counts]
        if all(map(math.isnan, errors)):
            continue
        line = [name]
        for goal in goals:
            above = [i for i, e in enumerate(errors) if not e < goal]
            first = above[-1] + 1 if above else 0
            line.append(str(counts[first]) if first < len(counts) else f"more than {counts[-1]}")
        lines.append(line)
    return table(["median error below", *(f"{g:g}" for g in goals)], lines)


def timing(timed: Sequence[dict[str, Any]]) -> str:
    """Milliseconds an evaluation and ratios."""
    names = list(dict.fromkeys((t["library"], t["name"]) for t in timed))
    sizes = sorted({t["batch"] for t in timed})
    bases = list(timed[0]["ratios"]) if timed else []
    head = ["library", "sampler"]
    for b in sizes:
        head += [f"batch {b}: ms", "quiet ms", *(f"to {base}" for base in bases)]
    lines = []
    for library, name in names:
        line = [library, name]
        for b in sizes:
            t = next((t for t in timed if (t["library"], t["name"], t["batch"]) == (library, name, b)), None)
            if t is None:
                line += ["–"] * (2 + len(bases))
            else:
                line += [f"{t['milliseconds']:.3f}", f"{t['quiet']:.3f}", *(f"{t['ratios'][k]:.2f}" for k in bases)]
        lines.append(line)
    return table(head, lines, left=2)


def convergence(curves: Sequence[dict[str, Any]]) -> str:
    """Order, rises and floor of every setting, by start."""
    lines = []
    for c in curves:
        rise = "none" if c["rise"] <= 1.02 else f"{c['rise']:.2g} times at {c['rise_at']}"
        lines.append(
            [
                c["start"],
                c["library"],
                c["method"],
                "" if c["declared"] is None else str(c["declared"]),
                f"{c['order']:.2f}",
                rise,
                number(c["floor"]),
                ", ".join(map(str, c["failures"])),
            ]
        )
    head = ["start", "library", "method", "declared", "observed order", "error rises", "least error", "fails at"]
    return table(head, lines, left=3)


def plot(rows: Rows, path: Path, panels: Sequence[tuple[str, str]]) -> None:
    """Error against evaluations: the best peer, every peer faintly, and ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(panels))
    height = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(4.2 * columns, 3.4 * height), layout="constrained", squeeze=False
    )
    colours = {"diffusers": "#c7a17a", "k-diffusion": "#8fb08c", "azula": "#9aa7c7"}
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (name, start) in zip(axes.flat, panels, strict=False):
        here = at(rows, problem=name, start=start)
        for library, colour in colours.items():
            for method in dict.fromkeys(r.method for r in here if r.library == library):
                line = [r for r in here if r.library == library and r.method == method and r.comparable]
                axis.plot([r.evaluations for r in line], [r.median for r in line], color=colour, lw=0.6, alpha=0.45)
            axis.plot([], [], color=colour, lw=1.5, label=library)
        best = [(n, least(peers(at(here, budget=n)), "median")) for n in budgets(here)]
        axis.plot([n for n, b in best if b], [b.median for _, b in best if b], "k--", lw=1.4, label="best peer at each")
        for role, colour in ((DEFAULT, "#e69f00"), (GENERIC, "#d55e00"), (FITTED, "#0072b2")):
            line = [r for r in here if r.library == "reverie" and r.method == role and not r.failure]
            if line:
                axis.plot(
                    [r.evaluations for r in line],
                    [r.median for r in line],
                    "o-",
                    color=colour,
                    lw=1.8,
                    ms=3.5,
                    label=f"Reverie, {ROLES[role].replace('`', '')}",
                )
        lowest = min((r.median for r in here if r.comparable), default=1e-6)
        axis.set(xscale="log", yscale="log", title=f"{name}, {start}", ylim=(max(lowest, 1e-8) / 2, 2))
        axis.set_xticks(budgets(here), labels=[str(n) for n in budgets(here)])
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", lw=0.3)
    for axis in axes[-1]:
        axis.set_xlabel("network evaluations")
    for row in axes:
        row[0].set_ylabel("median error")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, 2 * columns), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
