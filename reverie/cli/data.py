"""`reverie data`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from reverie import config

HELP = """Look at a data set before training: count, shapes, values, labels, duplicates, damaged files, captions.

Also draws a contact sheet. Settings of the data may be given as key=value.

Examples:

  reverie data digits

  reverie data my-photos/ size=64 resize=crop --out photos.png

  reverie data my-photos/ size=64 --strict
"""


SHOWN = 5
"""Troubles that `reverie.data.Look` names."""


@contextmanager
def _unwarned() -> Iterator[None]:
    """Inside, the package logs no warnings."""
    log = logging.getLogger("reverie")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="data", help=HELP, no_args_is_help=True)(data)


def data(
    name: Annotated[str, typer.Argument(help="digits, fashion, swissroll, a folder of images, a .npz or .npy file.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[SETTINGS]...", help="As size=64.")] = None,
    out: Annotated[Path | None, typer.Option(help="The contact sheet, a .png; NAME-contact.png if left out.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail if anything is wrong with captions.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="List every damaged file and every trouble with captions, a line each.")
    ] = False,
) -> None:
    """Resolve and load the data, print what is in them, draw the sheet."""
    from reverie.data import Data, contact_sheet, look, resolve

    plain = config.to_data(resolve(name))
    for word in words or []:
        plain = config.merged(plain, config.parse_override(word.removeprefix("data.")))
    if strict and "strict" in plain:  # other kinds have no captions to be wrong
        plain = config.merged(plain, {"strict": True})
    source = config.from_data(Data, plain, "data")
    with _unwarned():  # what is wrong is said below
        examples = source.load()
    found = look(source, examples=examples)
    for line in found.lines():
        print(line)
    for wrong in (*examples.skipped, *examples.troubles) if every else ():
        print(f"  {wrong.path}: {wrong.reason}")
    if not every and len(found.troubles) > SHOWN:
        print("to see every trouble: --all")
    path = out or Path(f"{Path(name).stem or 'data'}-contact.png")
    if path.suffix.lower() != ".png":
        raise ValueError(f"the contact sheet is a .png; given {path}")
    contact_sheet(examples, path)
    print(f"contact sheet: {path}")
