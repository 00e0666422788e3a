"""Parts that can be written to a file and read back: registered frozen dataclasses <-> plain data.

A *family* is an abstract class such as `Schedule`; a *part* is a frozen dataclass of that family
with a `kind`, the word that stands for it in files and on the command line::

    class Schedule(Part, family="schedule"): ...

    @dataclass(frozen=True)
    class Cosine(Schedule, kind="cosine"): ...

    >>> from reverie.schedules import Cosine, Schedule
    >>> to_data(Cosine())
    {'kind': 'cosine'}
    >>> from_data(Schedule, {"kind": "cosine"}, "schedule")
    Cosine()

Reading never imports by a name found in the data: a `kind` is looked up among the parts whose
modules lie in the family's own package, so a file cannot run code.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
import pkgutil
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Union, get_args, get_origin

Plain = Any
"""What JSON and TOML can hold: None, bool, int, float, str, lists and string-keyed dicts of these."""


class Part:
    """Base of every family. A subclass with `family=` opens a family, one with `kind=` joins it.

    `aliases` are other names that are read, never written: each stands for the kind with some settings.
    """

    family: ClassVar[str] = ""
    kind: ClassVar[str] = ""
    usual: ClassVar[str] = ""
    """Of a family: the kind of settings that name none; '' where they must."""
    needed: ClassVar[str] = ""
    """What the settings without a default are, for those who leave them out."""
    _kinds: ClassVar[dict[str, type[Part]]] = {}
    _aliases: ClassVar[dict[str, tuple[str, dict[str, Plain]]]] = {}

    def __init_subclass__(
        cls, *, family: str = "", kind: str = "", aliases: Mapping[str, Mapping[str, Plain]] | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init_subclass__(**kwargs)
        if family:
            cls.family, cls._kinds, cls._aliases = family, {}, {}
        if kind:
            cls.kind, known = kind, cls._kinds.get(kind, cls)
            if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                owner = f"{known.__module__}.{known.__qualname__}"
                raise ValueError(f"{cls.family} {kind!r} is {owner} already; give {cls.__qualname__} another kind")
            cls._kinds[kind] = cls
            cls._aliases.update({name: (kind, dict(given)) for name, given in (aliases or {}).items()})


def registered(family: type[Part]) -> dict[str, type[Part]]:
    """Every part of `family` by its kind, in alphabetical order.

    A family that is defined in a package of its own, such as `reverie.samplers`, has all modules of
    that package imported, so that a part in a file of its own there needs no other mention anywhere.
    """
    home = family.__module__.rpartition(".")[0]
    if "." in home:
        for found in pkgutil.iter_modules(importlib.import_module(home).__path__):
            importlib.import_module(f"{home}.{found.name}")
    return dict(sorted(family._kinds.items()))


def _normal(kind: str) -> str:
    return re.sub(r"[ _-]", "", kind.lower())


def aliases(family: type[Part]) -> dict[str, tuple[str, dict[str, Plain]]]:
    """Every other name that is read in `family`: its kind and the settings it stands for, in alphabetical order."""
    registered(family)
    return dict(sorted(family._aliases.items()))


def named(family: type[Part]) -> dict[str, Any]:
    """The part that each other name stands for, in alphabetical order."""
    return {name: from_data(family, name, family.family) for name in aliases(family)}


def lookup(family: type[Part], kind: str) -> type[Part]:
    """The part called `kind`, or by an alias; case, spaces, hyphens and underscores do not matter.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    return _named(family, kind)[0]


def _named(family: type[Part], kind: str) -> tuple[type[Part], dict[str, Plain]]:
    """The part called `kind`, with the settings that an alias stands for.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    known = registered(family)
    for name, cls in known.items():
        if _normal(name) == _normal(kind):
            return cls, {}
    for name, (other, given) in family._aliases.items():
        if _normal(name) == _normal(kind):
            return known[other], dict(given)
    names = [*known, *family._aliases]
    told = f"{', '.join(known)}{_others(family)}{_hint(kind, names)}"
    raise ValueError(f"unknown {family.family} {kind!r}; known: {told}")


def _others(family: type[Part]) -> str:
    names = sorted(family._aliases)
    return f"; other names: {', '.join(names)}" if names else ""


def _hint(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


# ------------------------------------------------------------------------------------ writing


def to_data(value: Any) -> Plain:
    """A part, or a dataclass, tuple, path or mapping of parts, as plain data.

    Raises:
        TypeError: something in it has no plain form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": value.kind, **fields} if isinstance(value, Part) else fields
    if isinstance(value, tuple | list):
        return [to_data(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): to_data(v) for k, v in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be stored in a config")


def in_words(part: Any) -> str:
    """A part, or its plain data, on one line: `table (betas=cosine (steps=1000, ...))`, settings left at none aside."""

    def said(value: Plain) -> str:
        if isinstance(value, dict) and "kind" in value:
            inner = ", ".join(f"{k}={said(v)}" for k, v in value.items() if k != "kind" and v is not None and v != [])
            return f"{value['kind']} ({inner})" if inner else str(value["kind"])
        if isinstance(value, list):
            shown = ", ".join(said(v) for v in value[:6])
            return f"[{shown}{', ...' if len(value) > 6 else ''}]"
        return f"{value:.6g}" if isinstance(value, float) else str(value)

    return said(to_data(part))


# ------------------------------------------------------------------------------------ reading


def hints(cls: type) -> dict[str, Any]:
    """Field name to resolved type of a dataclass."""
    resolved = typing.get_type_hints(cls)
    return {f.name: resolved[f.name] for f in dataclasses.fields(cls) if f.init}


def _options(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _part_of(hint: Any) -> type[Part] | None:
    """The family that a field of type `hint` takes, if it takes one."""
    found = [h for h in _options(hint) if isinstance(h, type) and issubclass(h, Part)]
    return found[0] if found else None


def _nested(hint: Any) -> type | None:
    found = [h for h in _options(hint) if isinstance(h, type) and dataclasses.is_dataclass(h)]
    return found[0] if found else None


def _several(hint: Any) -> Any | None:
    """The family or dataclass of which a field of type `hint` takes any number, if it is such a field."""
    given = get_args(hint) if get_origin(hint) is tuple else ()
    found = given[0] if len(given) == 2 and given[1] is Ellipsis else None
    return found if found is not None and (_part_of(found) or _nested(found)) else None


def from_data(hint: Any, data: Plain, where: str = "") -> Any:
    """Rebuild what `to_data` wrote; `hint` is the family, dataclass or type expected.

    Args:
        hint: a family (`Schedule`), a plain dataclass, or any type that pydantic can check.
        data: plain data.
        where: the dotted key, for messages.

    Raises:
        ValueError: an unknown kind or key, a missing key or a value of another type, named by its
            dotted key together with what would be right.
    """
    if data is None and type(None) in _options(hint):
        return None
    if data is None and "none" in get_args(hint):  # a choice that is called none
        return "none"
    family = _part_of(hint)
    if family is not None:
        return _read_part(family, data, where)
    several = _several(hint)
    if several is not None:
        if not isinstance(data, list | tuple):
            raise ValueError(f"{where or 'the config'} must be a list of tables; given {data!r}")
        return tuple(from_data(several, one, f"{where}[{i}]") for i, one in enumerate(data))
    nested = _nested(hint)
    if nested is not None:
        if not isinstance(data, Mapping):
            raise ValueError(f"{where or 'the config'} must be a table of settings; given {data!r}")
        return _read_fields(nested, data, where)
    return _read_value(hint, data, where)


def _read_part(family: type[Part], data: Plain, where: str) -> Part:
    if isinstance(data, str):
        data = {"kind": data}
    usual = hints(lookup(family, family.usual)).keys() if family.usual else ()
    if isinstance(data, Mapping) and data and usual and data.keys() <= usual:
        data = {"kind": family.usual, **data}
    if not isinstance(data, Mapping) or not isinstance(data.get("kind"), str):
        known = ", ".join(registered(family))
        raise ValueError(f"{where} needs a kind, one of: {known}{_others(family)}; given {data!r}")
    try:
        cls, given = _named(family, data["kind"])
    except ValueError as error:
        raise ValueError(f"{where}.kind: {error}") from None
    return _read_fields(cls, {**given, **{k: v for k, v in data.items() if k != "kind"}}, where)


def _read_fields(cls: type, data: Mapping[str, Plain], where: str) -> Any:
    known = hints(cls)
    for key in data:
        if key not in known:
            path = f"{where}.{key}" if where else key
            what = getattr(cls, "kind", "") or where or "a config"
            listed = ", ".join(known) or "no settings at all"
            raise ValueError(f"unknown setting {path}; {what} has: {listed}{_hint(key, known)}")
    data = {k: _on_default(cls, k, v) for k, v in data.items()}
    values = {k: from_data(known[k], v, f"{where}.{k}" if where else k) for k, v in data.items()}
    required = [
        f.name
        for f in dataclasses.fields(cls)
        if f.init and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        path = f"{where}.{missing[0]}" if where else missing[0]
        needed = f": {told}" if (told := getattr(cls, "needed", "")) else ""
        raise ValueError(f"setting {path} is missing; it has no default{needed}")
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


def _on_default(cls: type, key: str, value: Plain) -> Plain:
    """Settings of a part without its kind belong to the part that stands there by default."""
    if not isinstance(value, Mapping) or "kind" in value:
        return value
    default = _default(next(f for f in dataclasses.fields(cls) if f.name == key))
    return merged(to_data(default), value) if isinstance(default, Part) else value


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _tuples(value: Plain) -> Plain:
    if isinstance(value, dict):
        return {k: _tuples(v) for k, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def _read_value(hint: Any, data: Plain, where: str) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_python(_tuples(data), strict=True)
    except ValidationError as error:
        raise ValueError(f"{where} must be {type_name(hint)}; given {data!r}") from error


def type_name(hint: Any) -> str:
    """A type as a reader would write it: `int`, `float or none`, `list of int`."""
    if hint is type(None):
        return "none"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(type_name(h) for h in get_args(hint))
    if get_origin(hint) is typing.Literal:
        return " or ".join(repr(v) for v in get_args(hint))
    if get_origin(hint) is tuple:
        inner = [a for a in get_args(hint) if a is not Ellipsis]
        return "list of " + ", ".join(dict.fromkeys(type_name(a) for a in inner))
    return str(getattr(hint, "__name__", hint))


# ------------------------------------------------------------------------- files and overrides


def read_file(path: Path) -> dict[str, Plain]:
    """The plain data of a `.toml` or `.json` file.

    Raises:
        ValueError: it is neither, or not well-formed; the message names the file and the line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not well-formed {path.suffix[1:]}: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path} must hold a table of settings, not {type(data).__name__}")
    return data


def merged(base: Mapping[str, Plain], over: Mapping[str, Plain]) -> dict[str, Plain]:
    """`base` with the entries of `over` laid on top, table by table.

    A table that names another `kind` replaces the one below it whole: the old kind's settings
    mean nothing to the new one. One that names none is of any.
    """
    out = dict(base)
    for key, value in over.items():
        below = out.get(key)
        if isinstance(below, str) and isinstance(value, Mapping) and "kind" not in value:
            below = {"kind": below}
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            kind = value.get("kind", below.get("kind"))
            other = _normal(str(kind)) != _normal(str(below.get("kind", kind)))
            out[key] = merged({} if other else below, value)
        else:
            out[key] = value
    return out


def parse_override(text: str) -> dict[str, Plain]:
    """`train.steps=2000` as `{"train": {"steps": 2000}}`. The value is TOML; bare words are strings.

    >>> parse_override("net.kind=dit")
    {'net': {'kind': 'dit'}}
    >>> parse_override("train.betas=[0.9, 0.95]")
    {'train': {'betas': [0.9, 0.95]}}

    Raises:
        ValueError: there is no `=` or no key.
    """
    key, equals, value = text.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ValueError(f"{text!r} is not a setting; write key=value, such as train.steps=2000")
    try:
        parsed: Plain = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = None if value.strip().lower() in ("none", "null") else value.strip()
    for name in reversed(names):
        parsed = {name: parsed}
    return parsed


# -------------------------------------------------------------------------------- description


@dataclasses.dataclass(frozen=True)
class Setting:
    """One line of `reverie config`: a dotted key, its type and its default."""

    key: str
    type: str
    default: Plain


def settings(hint: Any, where: str = "", made: Any = None) -> Iterator[Setting]:
    """Every setting of a dataclass, those of nested ones and of the default parts included.

    Defaults are those of `made`, an instance, where one is given.
    """
    for f in dataclasses.fields(hint):
        known, key = hints(hint)[f.name], f"{where}.{f.name}" if where else f.name
        default = getattr(made, f.name) if made is not None else _default(f)
        nested, family = _nested(known), _part_of(known)
        if family is not None:
            kinds = " | ".join(registered(family))
            yield Setting(f"{key}.kind", kinds, getattr(default, "kind", None))
            if isinstance(default, Part):
                yield from settings(type(default), key, default)
        elif nested is not None:
            yield from settings(nested, key)
        else:
            plain = "required" if default is dataclasses.MISSING else to_data(default)
            yield Setting(key, type_name(known), plain)


def differences(a: Plain, b: Plain, where: str = "") -> Iterator[tuple[str, Plain, Plain]]:
    """The dotted keys at which two plain values differ, with both values."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted(a.keys() | b.keys()):
            yield from differences(a.get(key), b.get(key), f"{where}.{key}" if where else str(key))
    elif a != b:
        yield where, a, b


def families(hint: type) -> list[type[Part]]:
    """Every family that a dataclass takes parts of, those that its parts take included, in order."""
    found: dict[type[Part], None] = {}

    def visit(cls: type) -> None:
        for known in hints(cls).values():
            family, nested = _part_of(known), _nested(known)
            if family is not None and family not in found:
                found[family] = None
                for part in registered(family).values():
                    visit(part)
            elif family is None and nested is not None:
                visit(nested)

    visit(hint)
    return list(found)
