"""The figures of the benchmark as sentences, tables and a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks.guided.trading import CLEAR
from benchmarks.guided.ways import PLAIN, SCALES, TITLES
from benchmarks.publishing import about
from reverie import plots

Found = dict[str, Any]


def change(value: float, error: float, unit: float = 1.0, digits: int = 2) -> str:
    """A difference and its standard error: +1.3 ± 0.4."""
    return f"{unit * value:+.{digits}f} ± {unit * error:.{digits}f}".replace("-", "−")


def line_of(found: Found, way: str) -> list[dict[str, float]]:
    """What was found of a way, at the scales in turn."""
    return [row for row in found["rows"] if row["way"] == way]


def verdict(found: Found) -> str:
    """What guidance everywhere does at scale 3, and whether an interval is better."""
    at = next(row for row in found["at_three"] if row["way"] == PLAIN)
    none, three = (line_of(found, PLAIN)[SCALES.index(scale)] for scale in (1.0, 3.0))
    said = []
    for name, wanted in (("accuracy", 1), ("diversity", -1)):
        clear = wanted * at[name] > CLEAR * at[f"{name}_error"]
        verb = ("rises" if wanted > 0 else "falls") if clear else "does not clearly change"
        values = (none[name], three[name])
        ends = f"{values[0]:.1%} to {values[1]:.1%}" if name == "accuracy" else f"{values[0]:.2f} to {values[1]:.2f}"
        by = change(at[name], at[f"{name}_error"], *((100, 1) if name == "accuracy" else (1, 3)))
        said.append(f"{name} {verb}, {ends} ({by}{' points' if name == 'accuracy' else ''})")
    first = f"Classifier-free guidance of scale 3 everywhere: {said[0]}; {said[1]}."
    return "\n\n".join([first, _on_interval(found), _on_kid(found)])


def _on_interval(found: Found) -> str:
    (low, high), row, both = found["interval"], found["trade"], ("accuracy", "diversity")
    if None in (row[k] for k in both):
        return "Guidance in an interval and everywhere have no diversity or no accuracy in common."
    signs = {math.copysign(1, row[k]) for k in both}
    clear = len(signs) == 1 and any(abs(row[k]) > CLEAR * row[f"{k}_error"] for k in both)
    word = "no clear difference" if not clear else "better" if signs == {1.0} else "worse"
    accuracy = change(row["accuracy"], row["accuracy_error"], 100)
    diversity = change(row["diversity"], row["diversity_error"])
    return (
        f"Guidance in {low:g} < σ/α ≤ {high:g} alone, an interval chosen on other samples among {len(found['tried'])}, "
        f"against guidance everywhere: accuracy {accuracy} points where both are as diverse, diversity {diversity} "
        f"where both are as accurate: {word}."
    )


def _on_kid(found: Found) -> str:
    kids = [line_of(found, PLAIN)[SCALES.index(scale)]["kid"] for scale in (1.0, 3.0)] + [found["real"][1]["kid"]]
    none, three, real = (f"{kid:.1f}".replace("-", "−") for kid in kids)
    return f"KID to held-out digits, in the same features: {none} at scale 1, {three} at scale 3; of real ones {real}."


def _percent(row: dict[str, float]) -> str:
    return f"{row['accuracy']:.1%} ± {100 * row['accuracy_error']:.1f}"


def _spread(row: dict[str, float]) -> str:
    return f"{row['diversity']:.2f} ± {row['diversity_error']:.2f}"


def _over_scales(found: Found, cell: Any, real: str) -> str:  # noqa: ANN401
    text = ["| | " + " | ".join(f"{scale:g}" for scale in SCALES) + " |", "|---|" + "---:|" * len(SCALES)]
    for way, title in TITLES.items():
        text.append(f"| {title} | " + " | ".join(cell(row) for row in line_of(found, way)) + " |")
    return "\n".join([*text, "", real])


def _real(found: Found, cell: Any, first: int = 0) -> str:  # noqa: ANN401
    told = [f"{cell(row)} ({row['n']:,} {row['digits']})" for row in found["real"][first:]]
    return f"Real digits: {', '.join(told)}."


def changes(found: Found) -> str:
    """The differences from scale 1 to 3 of each way."""
    text = ["| from scale 1 to 3 | accuracy, points | diversity |", "|---|---:|---:|"]
    for row in found["at_three"]:
        cells = change(row["accuracy"], row["accuracy_error"], 100, 1), change(row["diversity"], row["diversity_error"])
        text.append(f"| {TITLES[row['way']]} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def tables(found: Found) -> dict[str, str]:
    """By the names of their places in docs/guidance.md."""
    told = f"{found['samples']:,} samples each, {found['steps']} steps. {about(found)}"
    return {
        "guided, said": f"{verdict(found)}\n\n{told}",
        "guided, accuracy": _over_scales(found, _percent, _real(found, _percent)),
        "guided, diversity": _over_scales(found, _spread, _real(found, _spread)),
        "guided, at three": changes(found),
    }


def full(found: Found) -> str:
    """The page in results/: all of it."""
    made = tables(found)
    kid = _over_scales(found, lambda r: f"{r['kid']:.2f}", _real(found, lambda r: f"{r['kid']:.2f}", 1))
    pixels = _over_scales(
        found, lambda r: f"{r['pixels']:.2f} ± {r['pixels_error']:.2f}", _real(found, lambda r: f"{r['pixels']:.2f}")
    )
    tried = ["| σ/α above | up to | accuracy at equal diversity, points |", "|---:|---:|---:|"]
    for row in found["tried"]:
        better = "" if row["gap"] is None else f"{100 * row['gap']:+.2f}"
        tried.append(f"| {row['low']:g} | {row['high']:g} | {better} |")
    sections = {
        "Accuracy": made["guided, accuracy"],
        "Diversity within a class, in features": made["guided, diversity"],
        "Diversity within a class, in pixels": pixels,
        "KID to held-out digits": kid,
        "At scale 3": made["guided, at three"],
        "Intervals tried": "\n".join(tried),
    }
    text = ["# Guided digits", "", f"`python -m benchmarks.guided`. {made['guided, said']}"]
    return "\n".join([*text, *(f"\n## {title}\n\n{table}" for title, table in sections.items()), ""])


def plot(found: Found, path: Path) -> None:
    """Accuracy and diversity over the scale, and one against the other, one below the other for narrow screens."""
    figure, axes = plots.page(3, 1, 4.6, 3.0, top=0.9)
    top, middle, bottom = axes[:, 0]
    for i, (way, title) in enumerate(TITLES.items()):
        rows = line_of(found, way)
        a, d = [100 * row["accuracy"] for row in rows], [row["diversity"] for row in rows]
        style = {
            "color": plots.COLOURS[i], "linestyle": plots.DASHES[i], "linewidth": 2.2 if i < 2 else 1.4,
            "marker": "os^vDP"[i], "markersize": 4,
        }  # fmt: skip
        bars = {"elinewidth": 0.8, "capsize": 0}
        top.errorbar(SCALES, a, [100 * row["accuracy_error"] for row in rows], label=title, **bars, **style)
        middle.errorbar(SCALES, d, [row["diversity_error"] for row in rows], **bars, **style)
        several = sorted([*rows, *(row for row in found["between"] if row["way"] == way)], key=lambda row: row["scale"])
        bottom.plot([row["diversity"] for row in several], [100 * row["accuracy"] for row in several], **style)
    real = found["real"][0]
    for axis in (top, bottom):
        axis.set_ylim(100 * line_of(found, PLAIN)[0]["accuracy"] - 1, 100.3)  # what fails is told by the table
        axis.axhline(100 * real["accuracy"], color=plots.FAINT, linewidth=0.9, linestyle=(0, (1, 2)))
    middle.axhline(1, color=plots.FAINT, linewidth=0.9, linestyle=(0, (1, 2)))
    plots.lined(top, "", "scale", "accuracy, %")
    plots.lined(middle, "", "scale", "diversity, of real digits")
    plots.lined(bottom, "", "diversity, of real digits", "accuracy, %")
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(figure, path, {"about": found["about"]})
