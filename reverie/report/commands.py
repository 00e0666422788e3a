"""Commands of the shell that make a run again, or what a report lacks."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from reverie import config
from reverie.config import Part, Plain
from reverie.data import Data, built_in, resolve
from reverie.recipe import Recipe, compose, library
from reverie.runs import Run
from reverie.spaces import Space
from reverie.stages import named_in

FITTED = ("mean", "std", "latent")
"""Fields of a space that the data fill in."""


def train(run: Run) -> str:
    """The command that makes the run again from the same data."""
    return shlex.join(["reverie", "train", *words(run), "--out", str(run.path)])


def with_run(verb: str, run: Run | Path, *more: str) -> str:
    """A verb on a run."""
    path = run if isinstance(run, Path) else run.path
    return shlex.join(["reverie", *verb.split(), str(path), *more])


def words(run: Run) -> list[str]:
    """The words of `train`: the data, then as key=value what differs from what they alone would give.

    What the data fill in, such as the statistics of the space, is left to them.
    """
    word, data = _source(run.recipe.data)
    layers = [config.read_file(library()[word])] if word in library() else []
    alone = compose([*layers, {"data": config.to_data(data)}])
    suited = alone.completed(run.facts.shape, run.facts.image, run.facts.captions > 0)
    base = dataclasses.replace(alone, sample=suited.sample)
    told = dataclasses.replace(run.recipe, space=_as_given(run, suited))
    if told.net == suited.net:
        told = dataclasses.replace(told, net=alone.net)
    if told.text == suited.text:
        told = dataclasses.replace(told, text=alone.text)
    found = [*_fields(told, base, ""), *_stages(run)]
    return [word, *found] if word else [*_all("data", config.to_data(data)), *found]


def _stages(run: Run) -> list[str]:
    """The stages of the run that no setting names, as they stand in its folder."""
    named = named_in(run.recipe)
    return [f"stages.{each.name}={run.path / each.name}" for each in run.facts.stages if each.name not in named]


def _all(key: str, value: config.Plain) -> list[str]:
    """Settings one by one, those that are none aside."""
    if isinstance(value, dict):
        return [word for name, inner in value.items() for word in _all(f"{key}.{name}", inner)]
    return [] if value is None else [f"{key}={_value(value)}"]


def _as_given(run: Run, suited: Recipe) -> Space | None:
    """The run's space as a recipe would name it; None where it is what suits the data."""
    space = run.recipe.space
    assert space is not None
    if space.learns:
        assert dataclasses.is_dataclass(space)
        space = dataclasses.replace(space, **{name: () for name in FITTED if hasattr(space, name)})
    return None if space == suited.space else space


def _source(data: Data) -> tuple[str, Data]:
    """The word that stands for a source of data, and the settings it stands for; no word where there is none."""
    path = getattr(data, "path", None)
    word = data.kind if data.kind in built_in() else str(path or "")
    try:
        found = resolve(word)
    except (ValueError, OSError):  # a folder that has gone
        return "", data
    return (word, found) if found.kind == data.kind else ("", data)


def _fields(value: object, base: object, where: str) -> Iterator[str]:
    """`key=value` for each field of a dataclass in which it differs from `base`, another of the same type."""
    assert dataclasses.is_dataclass(value)
    for field in dataclasses.fields(value):
        if field.init:
            own = getattr(value, field.name)
            other = getattr(base, field.name) if base is not None else None
            key = f"{where}.{field.name}" if where else field.name
            if own != other or base is None:
                yield from _setting(own, other, key)


def _setting(own: object, other: object, key: str) -> Iterator[str]:
    """As `_fields`, of one field; a part of another kind is compared with that kind's defaults."""
    if isinstance(own, Part):
        if type(own) is not type(other):
            yield f"{key}.kind={own.kind}"
            other = _default(type(own))
        yield from _fields(own, other, key)
    elif dataclasses.is_dataclass(own):
        yield from _fields(own, other if type(other) is type(own) else None, key)
    else:
        yield f"{key}={_value(config.to_data(own))}"


def _default(cls: type[Part]) -> Part | None:
    """A part with nothing set; None where it must be told something."""
    try:
        return cls()
    except TypeError:
        return None


def _value(value: Plain, inside: bool = False) -> str:
    """A value as TOML has it; outside of lists and tables, `none` and simple words are bare."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        bare = (
            not inside and value.replace("_", "").replace("-", "").isalpha() and value.lower() not in ("true", "false")
        )
        return value if bare else json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(_value(v, inside=True) for v in value)}]"
    if isinstance(value, Mapping):
        kept = ((k, v) for k, v in value.items() if v is not None)
        return "{" + ", ".join(f"{k} = {_value(v, inside=True)}" for k, v in kept) + "}"
    return repr(value)
