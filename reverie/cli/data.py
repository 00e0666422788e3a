"""`reverie data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reverie import config

HELP = """Look at a data set before training: count, shapes, values, labels, duplicates, damaged files.

Also draws a contact sheet. Settings of the data may be given as key=value.

Examples:

  reverie data digits

  reverie data my-photos/ size=64 resize=crop --out photos.png
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="data", help=HELP, no_args_is_help=True)(data)


def data(
    name: Annotated[str, typer.Argument(help="digits, fashion, swissroll, a folder of images, a .npz or .npy file.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[SETTINGS]...", help="As size=64.")] = None,
    out: Annotated[Path | None, typer.Option(help="The contact sheet, a .png; NAME-contact.png if left out.")] = None,
) -> None:
    """Resolve and load the data, print what is in them, draw the sheet."""
    from reverie.data import Data, contact_sheet, look, resolve

    plain = config.to_data(resolve(name))
    for word in words or []:
        plain = config.merged(plain, config.parse_override(word.removeprefix("data.")))
    source = config.from_data(Data, plain, "data")
    examples = source.load()
    for line in look(source, examples=examples).lines():
        print(line)
    path = out or Path(f"{Path(name).stem or 'data'}-contact.png")
    if path.suffix.lower() != ".png":
        raise ValueError(f"the contact sheet is a .png; given {path}")
    contact_sheet(examples, path)
    print(f"contact sheet: {path}")
