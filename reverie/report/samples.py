"""The page of samples of any origin: they beside real examples, their evaluation and their audit.

Letters in shapes: N examples, ... one example.
"""

from __future__ import annotations

import io
import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reverie.audit.drawn import distances, pairs
from reverie.audit.findings import Audit
from reverie.evaluation.collection import Collection
from reverie.evaluation.numbers import Evaluation
from reverie.report import audited, judged, measured
from reverie.report.denoising import FEW, pictures_of
from reverie.report.environment import environment
from reverie.report.images import Still, stills
from reverie.report.views import Block, Commands, Facts, Folded, Page, Pictures, Section, Text
from reverie.report.words import plural, shape
from reverie.runs import Facts as RunFacts
from reverie.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image as Picture

IMAGES, POINTS, LINES = 32, 500, 4
"""Examples that are shown: of images, of a cloud of points, of series."""
DOTS = 150
"""Of an inch of a drawing."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Samples, what they are compared with, and what was found.

    Attributes:
        made: the samples.
        real: what their model was trained on.
        evaluation: of the samples beside the real examples.
        audit: of the samples, the real examples, and held-out ones if there are any.
        device: that the features were computed on.
        command: the words that made it.
    """

    made: Collection
    real: Collection
    evaluation: Evaluation
    audit: Audit
    device: str = "cpu"
    command: tuple[str, ...] = ()


def page(found: Judged, date: str) -> Page:
    """All that is written of the samples.

    Args:
        found: they and what was found.
        date: of the page, in words.
    """
    sections = (
        Section("samples", "Samples beside real examples", [*_sheets(found)]),
        Section("evaluation", "Evaluation", [*judged.evaluated(found.evaluation)]),
        Section("audit", "Audit", [*_audit(found.audit)]),
        Section("reproduce", "Environment and reproduction", _environment(found)),
    )
    what = "images" if found.made.image else "arrays"
    subtitle = (
        f"{plural(len(found.made), 'sample')} of {found.made.source}, {what} of shape {shape(found.made.shape)}, "
        f"judged by {plural(len(found.real), 'real example')} of {found.real.source}."
    )
    name = Path(found.made.source).name or found.made.source
    return Page(name, subtitle, _headline(found), sections, (), f"Made by Reverie {__version__}, {date}")


def _headline(found: Judged) -> tuple[tuple[str, str, str], ...]:
    primary = [measured.tile(found.evaluation, n) for n in measured.of_samples(found.evaluation)[:1]]
    counts = (("samples", f"{len(found.made):,}", ""), ("real examples", f"{len(found.real):,}", ""))
    return *counts, *primary, ("audit", found.audit.verdict.word, "")


# -------------------------------------------------------------------------------------- pictures


def _sheets(found: Judged) -> Iterator[Block]:
    """Evenly spaced examples of both, drawn alike."""
    of = found.made.shape
    n = IMAGES if found.made.image else POINTS if len(of) == 1 and of[0] <= FEW else LINES
    n = min(n, len(found.made), len(found.real))
    rows = [np.linspace(0, len(one) - 1, n).round().astype(int) for one in (found.made, found.real)]
    made, real = (one.items[r] for one, r in zip((found.made, found.real), rows, strict=True))
    facts = RunFacts(of, found.made.image, (), len(found.real), 0, 0, "")
    drawn = pictures_of([made, real], (real, made), facts, None)
    captions = ("samples", "real examples")
    seen = stills(drawn, captions, 2 * measured.ROOM)
    yield Text(f"{n} of each, evenly spaced over all, not chosen.")
    yield Pictures(tuple(zip(seen, captions, strict=True)), beside=True)


def _audit(audit: Audit) -> Iterator[Block]:
    seen: list[tuple[Still, str]] = []
    drawn: list[tuple[Picture, str]] = []
    if audit.pairs is not None and len(audit.pairs) and audit.pairs.ndim == 5 and audit.pairs.dtype == np.uint8:
        drawn.append((pairs(audit.pairs), audited.CAPTIONS["pairs"]))
    if audit.histograms:
        drawn.append((_painted(distances(audit)), audited.CAPTIONS["distances"]))
    for picture, caption in drawn:
        seen.append((stills([picture], [caption], measured.ROOM)[0], caption))
    yield from audited.looked(audit, [Pictures(tuple(seen))] if seen else [])
    yield Folded("Protocol of the audit", audited.told(audit))


def _painted(figure: Figure) -> Picture:
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS)
    return Image.open(buffer).convert("RGB")


def _environment(found: Judged) -> list[Block]:
    seconds = [found.evaluation.about.get("seconds"), found.audit.about.get("seconds")]
    took = sum(s for s in seconds if isinstance(s, int | float) and math.isfinite(s))
    blocks: list[Block] = [Facts((*environment(found.device), ("judged in", f"{took:.0f} s")))]
    if found.command:
        blocks += [Text("To make this page again:"), Commands((shlex.join(found.command),))]
    return blocks
