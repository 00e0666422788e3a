"""The words of `train` and `config`: recipes, data and settings, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from reverie import config

if TYPE_CHECKING:
    from reverie.plan import Plan
    from reverie.recipe import Recipe


def is_setting(word: str) -> bool:
    """Whether a word of the command line is `key=value`."""
    return "=" in word and not Path(word).exists()


def composed(words: Sequence[str], recipe: str | None = None) -> tuple[Recipe, str]:
    """The recipe that the words make, without its stages, and a short name for it; as `planned_by`."""
    plan, name = planned_by(words, recipe)
    return plan.recipe, name


def planned_by(words: Sequence[str], recipe: str | None = None) -> tuple[Plan, str]:
    """The plan that the words make, a recipe and those of its stages, and a short name for it.

    A word is a setting (`key=value`), a recipe (a name of the library, or a .toml or .json file)
    or data (a built-in name or a path), in any order. A name that is both, such as `digits`, is the
    recipe, unless there is another one: then it is the data.

    Raises:
        ValueError: a word is none of these, there are two recipes or two sources of data, or what
            they make is no recipe.
    """
    from reverie.data import built_in, resolve
    from reverie.plan import planned
    from reverie.recipe import library

    chosen: Path | None = None
    data: dict[str, config.Plain] | None = None
    settings: list[dict[str, config.Plain]] = []
    name = ""
    if recipe is not None:
        chosen = _recipe_file(recipe)
    for word in sorted(words, key=lambda w: w in built_in()):  # what may be either comes last
        if is_setting(word):
            settings.append(config.parse_override(word))
        elif word.endswith((".toml", ".json")) or (word in library() and (chosen is None or word not in built_in())):
            if chosen is not None:
                raise ValueError(f"two recipes, {chosen.stem} and {word}; give one")
            chosen = _recipe_file(word)
        elif data is not None:
            raise ValueError(f"two sources of data, {name} and {word}; give one")
        else:
            name, data = Path(word).resolve().stem or "run", config.to_data(resolve(word))
    settings.sort(key=lambda given: "kind" not in given)  # what is trained comes first, for the loss depends on it
    layers: list[dict[str, config.Plain]] = [] if chosen is None else [config.read_file(chosen)]
    layers += [] if data is None else [{"data": data}]
    try:
        return planned([*layers, *settings]), name or (chosen.stem if chosen else "run")
    except ValueError as error:
        if chosen is not None and not settings and data is None:
            raise ValueError(f"{chosen}: {error}") from None
        raise


def _recipe_file(text: str) -> Path:
    from reverie.recipe import library

    known = library()
    if text in known:
        return known[text]
    path = Path(text)
    if path.suffix not in (".toml", ".json"):
        raise ValueError(f"unknown recipe {text!r}; known: {', '.join(known)}, or a .toml or .json file")
    if not path.is_file():
        raise ValueError(f"there is no recipe file {path}; recipes by name: {', '.join(known)}")
    return path
