"""A report of a run as one HTML page and a model card, one of samples, and a comparison of several runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from reverie.files import write_text
from reverie.report import card, comparison, samples, sections, writing
from reverie.report.comparison import Comparison
from reverie.report.found import gather
from reverie.report.history import Damage
from reverie.report.samples import Judged
from reverie.runs import Run, of_package

FILE = "report.html"


@dataclass(frozen=True)
class Written:
    """What was written, and what could not be read on the way."""

    page: Path
    card: Path | None
    """None where the run has a card of the user's own, which is left as it is, or comes with the package."""
    damage: tuple[Damage, ...]


def report(run: Run, out: Path | None = None, date: str | None = None) -> Written:
    """Write the page of a run, and its model card into its folder, unless that is the package's.

    The page is a function of the run's files and the date. Samples are drawn on the device of the run's network.

    Args:
        run: at any stage of its training.
        out: where the page goes; `FILE` of the run unless given.
        date: the page's, in words; now unless given.

    Raises:
        ValueError: a page that is not to end in .html.
        OSError: a file cannot be written.
    """
    path = checked(run.path / FILE if out is None else out)
    found = gather(run)
    made = sections.page(found, _now() if date is None else date)
    write_text(path, writing.page(made))
    own = run.path / card.FILE
    free = not own.exists() or card.MARK in own.read_text(encoding="utf-8", errors="replace")
    ours = free and not of_package(run.path)
    if ours:
        write_text(own, card.card(found))
    return Written(path, own if ours else None, tuple(Damage(*d) for d in made.damage))


def report_samples(found: Judged, out: Path, date: str | None = None) -> Path:
    """Write the page of samples of any origin; its path.

    Args:
        found: the samples and what was found about them.
        out: where the page goes.
        date: the page's, in words; now unless given.

    Raises:
        ValueError: a page that is not to end in .html.
        OSError: the page cannot be written.
    """
    path = checked(out)
    write_text(path, writing.page(samples.page(found, _now() if date is None else date)))
    return path


def compare(runs: list[Run], out: Path, date: str | None = None) -> Comparison:
    """Write a page with several runs side by side.

    Args:
        runs: two or more, of any kind.
        out: where the page goes.
        date: the page's, in words; now unless given.

    Raises:
        ValueError: fewer than two runs, one of them twice, or a page that is not to end in .html.
        OSError: the page cannot be written.
    """
    path = checked(out)
    made = comparison.Comparison([gather(run) for run in runs])
    write_text(path, writing.page(made.page(_now() if date is None else date)))
    return made


def checked(path: Path) -> Path:
    """A path that is a page's.

    Raises:
        ValueError: it does not end in .html.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a page is written to a path ending in .html; given {str(path)!r}")
    return path


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
