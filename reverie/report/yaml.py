"""Plain data as YAML that every reader understands the same: strings in double quotes, blocks for the rest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PRINTED = re.compile("[^\x20-\x7e\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]|[\u2028\u2029]")
"""What YAML wants escaped: controls, line separators, byte order marks, halves of characters."""


def dump(data: Mapping[str, Any]) -> str:
    """A mapping of strings, finite numbers, bools, None, lists and mappings, a key a line.

    >>> print(dump({"tags": ["diffusion"], "count": 3}), end="")
    tags:
    - "diffusion"
    count: 3

    Raises:
        TypeError: something else.
    """
    return "".join(f"{line}\n" for line in _lines(data, ""))


def _lines(value: Any, indent: str) -> Iterator[str]:  # noqa: ANN401  # plain data
    if isinstance(value, Mapping) and value:
        for key, below in value.items():
            name = key if re.fullmatch(r"[a-z][a-z_-]*", key) and key not in _WORDS else _quoted(key)
            yield from _entry(f"{indent}{name}:", below, indent)
    elif isinstance(value, list | tuple) and value:
        for below in value:
            if isinstance(below, Mapping | list | tuple) and below:
                first, *rest = _lines(below, f"{indent}  ")
                yield f"{indent}- {first.lstrip()}"
                yield from rest
            else:
                yield f"{indent}- {_scalar(below)}"
    else:
        yield f"{indent}{_scalar(value)}"


_WORDS = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:  # noqa: ANN401  # plain data
    if isinstance(value, Mapping) and value:
        yield head
        yield from _lines(value, f"{indent}  ")
    elif isinstance(value, list | tuple) and value:
        yield head
        yield from _lines(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _scalar(value: Any) -> str:  # noqa: ANN401  # plain data
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float):
        text = json.dumps(value, allow_nan=False)
        return text if "e" not in text or "." in text else text.replace("e", ".0e")  # else YAML 1.1 reads a string
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, list | tuple):
        return "[]"
    return json.dumps(value, allow_nan=False)


def _quoted(text: str) -> str:
    return PRINTED.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(_whole(text), ensure_ascii=False))


def _whole(text: str) -> str:
    """Without halves of characters, which no encoding has."""
    return text.encode("utf-8", "replace").decode("utf-8")
