"""`reverie compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reverie.cli.notes import note

if TYPE_CHECKING:
    from reverie.report.comparison import Comparison
    from reverie.report.views import Table

HELP = """Several runs side by side: settings that differ, sizes, losses, curves, samples, evaluations.

A table is printed, and one page written that needs no network. Evaluations stand side by side only where their protocol
is the same.

Examples:

  reverie compare runs/digits runs/digits-long

  reverie compare runs/digits runs/digits-long --out comparison.html
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="compare", help=HELP, no_args_is_help=True)(compare)


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Two run folders or more.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("compare.html"),
) -> None:
    """Open the runs, print the tables, write the page."""
    from reverie import report as reports
    from reverie.runs import load

    made = reports.compare([load(run) for run in runs], out)
    _print(made)
    for piece in made.damage:
        note(f"{piece.where}: {piece.why}")
    print(f"wrote {out}")


def _print(made: Comparison) -> None:
    """Facts, settings that differ, and evaluations."""
    from reverie.report.views import Table

    _table(Table(("", *made.names), made.facts))
    if made.differences:
        print("\nSettings that differ:")
        _table(Table(("", *made.names), made.differences))
    else:
        print("\nAll settings are the same.")
    if not made.same_losses:
        print("\nThese runs differ in data, loss or process, so their losses are not of one scale.")
    for protocol, table in made.tables.items():
        print(f"\nProtocol {protocol}:")
        _table(table)
    if made.apart:
        print(f"\n{made.apart}")
    print()


def _table(of: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Rich
    from rich.text import Text

    table = Rich(box=None, padding=(0, 2, 0, 0))
    for i, name in enumerate(of.head):
        table.add_column(Text(name), justify="left" if i == 0 else "right", overflow="fold")
    for r, row in enumerate(of.rows):
        table.add_row(*(Text(cell, style="bold" if (r, i) in of.strong else "") for i, cell in enumerate(row)))
    Console(highlight=False).print(table)
