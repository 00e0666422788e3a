"""`reverie report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reverie.cli.notes import note

HELP = """One page that tells all about a run, and a model card.

RUN/report.html needs no network and no other file: what was trained, on what and how; curves; samples over time and
their denoising, each with a slider; evaluation, likelihood, audit and tuning with their protocols; how to make it
again. RUN/README.md is a model card in the form of the Hugging Face Hub. What the run lacks is said, with the
command that makes it.

Examples:

  reverie report runs/digits

  reverie report runs/digits --out digits.html
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="report", help=HELP, no_args_is_help=True)(report)


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path | None, typer.Option(help="The page; RUN/report.html if left out.")] = None,
    device: Annotated[
        str | None, typer.Option(help="To draw the denoising on: cpu, cuda, mps; the fastest there is if left out.")
    ] = None,
) -> None:
    """Open the run, write page and card, say where they are."""
    from reverie import report as reports
    from reverie.devices import usable
    from reverie.runs import MODEL, load

    opened = load(run)
    if out is not None:
        reports.checked(out)
    chosen = usable(device)
    if (run / MODEL).is_file() and chosen != "cpu":
        opened.to(chosen)
    written = reports.report(opened, out)
    for piece in written.damage:
        note(f"{piece.where}: {piece.why}")
    print(f"wrote {written.page}")
    if written.card is not None:
        print(f"wrote {written.card}")
    else:
        note(f"{run / 'README.md'} was not written by Reverie, and is left as it is")
