"""Pictures of an audit: the nearest pairs, and how near samples are beside held-out examples.

Letters in shapes: W pairs, C channels, H height, W width, ... one example.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reverie.audit.findings import Audit
from reverie.files import write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as Picture

COLUMNS = 8
"""Pairs side by side."""


def pairs(items: np.ndarray) -> Picture:
    """Samples above their nearest training examples, of pairs (W, 2, C, H, W) uint8, nearest first."""
    from reverie.pictures import sheet

    rows, names = [], []
    for start in range(0, len(items), COLUMNS):
        part = items[start : start + COLUMNS]
        rows += [part[:, 0], part[:, 1]]
        names += ["sample", "nearest in training"]
    return sheet(rows, row_labels=names)


def distances(audit: Audit) -> Figure:
    """How near samples are to training examples beside held-out ones, a panel a space; near-copies left of the line."""
    from reverie import plots

    figure, axes = plots.page(1, len(audit.histograms), 5.2, 3.6)
    controls = "training to the others" if audit.protocol.get("held_out") is None else "held-out"
    for panel, found in zip(axes[0], audit.histograms, strict=True):
        edges = np.asarray(found.edges)
        for counts, colour, name, fill in (
            (found.held_out, plots.BLUE, controls, True),
            (found.samples, plots.RED, "samples", False),
        ):
            share = np.asarray(counts) / max(1, sum(counts))
            panel.stairs(share, edges, color=colour, fill=fill, alpha=0.35 if fill else 1.0, linewidth=1.8, label=name)
        panel.axvline(found.threshold, color=plots.INK, linestyle="--", linewidth=1.2, label="near-copies below")
        plots.lined(panel, found.space, "distance to the nearest / to the next", "share")
        panel.legend(frameon=False, fontsize=8)
    return figure


def save(audit: Audit, folder: Path, name: str) -> list[Path]:
    """Write NAME.json, NAME-distances.png, and NAME-pairs.png of images; the paths.

    Raises:
        OSError: the folder cannot be written.
    """
    from reverie import plots
    from reverie.pictures import save_png

    about = {"audit": name, "verdict": audit.verdict.word}
    paths = [folder / f"{name}.json", folder / f"{name}-distances.png"]
    write_json(paths[0], audit.to_data())
    plots.save(distances(audit), paths[1], about)
    if audit.pairs is not None and len(audit.pairs) and audit.pairs.ndim == 5 and audit.pairs.dtype == np.uint8:
        paths.append(folder / f"{name}-pairs.png")
        save_png(pairs(audit.pairs), paths[-1], about)
    return paths
