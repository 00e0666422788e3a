"""`reverie config`."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from reverie import config as plain
from reverie.cli.compose import planned_by
from reverie.config import Plain

HELP = """Print all that can be set, with types and defaults; or, given words as for train, the resolved recipe.

The recipe comes out as TOML: save it, change it, train from it.

Examples:

  reverie config

  reverie config digits train.steps=2000 > my-recipe.toml
"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="config", help=HELP)(config)


def config(
    words: Annotated[list[str] | None, typer.Argument(metavar="[WORDS]...", help="As for train.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe by name or file.")] = None,
) -> None:
    """Print a recipe, or the reference of settings."""
    if words or recipe:
        import tomli_w

        made, _ = planned_by(words or [], recipe)
        print(tomli_w.dumps(_without_none(made.to_data())), end="")
        return
    for line in _reference():
        print(line)


def _without_none(value: Plain) -> Plain:
    """TOML has no word for none: what is left out is none."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _reference() -> list[str]:
    from reverie.recipe import Recipe, library

    lines = ["# recipes: " + ", ".join(library()), "", "# settings of a run: key  type  default"]
    entries = list(plain.settings(Recipe))
    width = max(len(e.key) for e in entries)
    lines += [f"{e.key:{width}}  {e.type}  {_shown(e.default)}" for e in entries]
    for family in plain.families(Recipe):
        lines += ["", f"# {family.family}: kinds and their settings"]
        for kind, cls in plain.registered(family).items():
            told = (cls.__doc__ or "").strip().splitlines()[0]
            lines.append(f"{kind}  # {told}")
            for f in dataclasses.fields(cls):  # type: ignore[arg-type]
                default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
                value = "required" if default is dataclasses.MISSING else _shown(plain.to_data(default))
                lines.append(f"    {f.name}  {plain.type_name(plain.hints(cls)[f.name])}  {value}")
    return lines


def _shown(value: Plain) -> str:
    if isinstance(value, dict):
        return str(value.get("kind", value))
    return "none" if value is None else str(value)
