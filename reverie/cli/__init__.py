"""The command line `reverie`: one file a verb, each of which parses, calls and prints.

Every module of this package that defines `register(app)` adds a verb.
"""

from __future__ import annotations

import os
import sys

import typer

from reverie.cli import (
    audit,
    compare,
    config,
    data,
    distill,
    doctor,
    edit,
    ema,
    evaluate,
    info,
    likelihood,
    plot,
    report,
    sample,
    train,
    tune,
)  # fmt: skip
from reverie.version import __version__

app = typer.Typer(
    name="reverie",
    help="Train, sample and inspect diffusion models. Start with: [bold]reverie train digits[/bold]",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (
    train, sample, edit, tune, distill, ema, evaluate, audit, likelihood, report, compare, info, data, config, plot,
    doctor,
):  # fmt: skip
    verb.register(app)


def _flowing(text: str) -> str:
    """A help text with each paragraph in one line, to be wrapped where the terminal ends; indented lines stay."""
    paragraphs = text.strip("\n").split("\n\n")
    return "\n\n".join(p if p.startswith(" ") else " ".join(p.splitlines()) for p in paragraphs) + "\n"


for command in app.registered_commands:
    command.help = _flowing(command.help or "")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reverie {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the verb."""


def main() -> None:
    """Run the command line; what a user can mend ends in one sentence, not a traceback.

    With REVERIE_DEBUG set, errors are raised.
    """
    debug = bool(os.environ.get("REVERIE_DEBUG"))
    try:
        app()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if debug or not str(error):
            raise
        known = isinstance(error, ValueError | OSError | ImportError) or type(error).__module__.startswith("reverie.")
        if not known:
            raise
        sys.stdout.flush()
        typer.echo(f"error: {_sentence(error)}", err=True)
        sys.exit(1)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)
