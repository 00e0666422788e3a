"""The figures as a table, what was wanted of them, and the sheet.

Letters in shapes: N captions, S samples of each, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.publishing import about
from reverie.pictures import sheet

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

SIDES = {"seen": "seen in training", "held_out": "held out"}
HALF, TENFOLD, MOST = 0.5, 10.0, 0.7

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Of real pictures and of samples, `real` and `samples`: what was asked, and `Rate` as plain data."""


def table(sides: Mapping[str, Figures]) -> str:
    """Samples, real pictures and chance, in percent with standard errors."""
    rows = ["| captions | | samples | real pictures | chance |", "|---|---|---|---|---|"]
    for side, figures in sides.items():
        for name, real in figures["real"].items():
            made = figures.get("samples", {}).get(name)
            told = (_percent(made), _percent(real), f"{100 * real['chance']:.2g} %")
            rows.append(f"| {SIDES[side]} | {name} | {' | '.join(told)} |")
    return "\n".join(rows)


def _percent(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{100 * found['share']:.1f} ± {100 * found['error']:.1f} %"


def wanted(sides: Mapping[str, Figures]) -> list[tuple[str, bool]]:
    """What is wanted of the samples, and whether it is so."""
    told: list[tuple[str, bool]] = []
    for side, figures in sides.items():
        made, real = (figures[what] for what in ("samples", "real"))
        name = next(iter(made))
        least = HALF * real[name]["share"] if side == "seen" else TENFOLD * made[name]["chance"]
        what = "half as often as real pictures" if side == "seen" else "ten times as often as by chance"
        share = made[name]["share"]
        told.append((f"{SIDES[side]}: found by the {name} {share:.1%}, wanted {what}: {least:.1%}", share >= least))
        for each in [name for name in made if name.endswith("as asked")]:
            share = made[each]["share"]
            told.append((f"{SIDES[side]}: {each} {share:.1%}, wanted {MOST:.0%}", share >= MOST))
    return told


def page(found: Mapping[str, Any], picture: str) -> str:
    """The whole page."""
    lines = ["# Emoji by their captions", "", said(found), "", table(found["sides"])]
    if "run" in found:
        verdicts = [f"- {'yes' if so else '**no**'}: {what}" for what, so in wanted(found["sides"])]
        lines += ["", *verdicts, "", f"![captions with real pictures and samples]({picture})", "", SHEET]
    return "\n".join(lines) + "\n"


SHEET = (
    "In each row of the picture the real one in the style asked for, then samples for its caption, style and category; "
    "above the gap captions that were trained on, below it captions that were not."
)


def said(found: Mapping[str, Any]) -> str:
    """What was judged, by whom, when and where."""
    told = (
        f"The judge learns from {found['judge']['learnt_from']:,} real pictures, none of an emoji that is asked for: "
        "captions that were seen in training are strangers to it too. Chance is one of the captions that are compared, "
        "or always the commonest kind."
    )
    if "run" in found:
        run = found["run"]
        model = f"Samples of a model after {run['steps']:,} steps, told {run['asked']}, by {run['sampling']}."
        told = f"{model} {told}"
    return f"{told} {about(found)}"


def drawn(names: Sequence[Sequence[str]], real: Sequence[np.ndarray], samples: Sequence[np.ndarray]) -> Picture:
    """Rows of a real picture and samples, with their captions; a gap between the sides.

    Args:
        names: captions of each side.
        real: (N, C, H, W) uint8 of each side.
        samples: (N, S, C, H, W) uint8 of each side.
    """
    rows: list[np.ndarray] = []
    labels: list[str] = []
    for captions, true, made in zip(names, real, samples, strict=True):
        if rows:
            rows.append(made[0][:0])
            labels.append("")
        rows += [np.concatenate([one[None], several]) for one, several in zip(true, made, strict=True)]
        labels += captions
    return sheet(rows, row_labels=labels)
