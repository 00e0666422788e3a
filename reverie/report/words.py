"""Numbers and settings in words, as people read them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from reverie import config
from reverie.report.history import finite

NONE = "–"
ARROWS = {"lower": "↓", "higher": "↑"}
"""Which values are better."""
LEGEND = "↓ lower is better, ↑ higher is better."


def number(value: object) -> str:
    """Four digits at the most, and no more than the number needs; thousands with commas.

    >>> number(0.123456), number(1617), number(12345.678), number(3e-4), number(None)
    ('0.1235', '1,617', '12,346', '0.0003', '–')
    """
    if not finite(value):
        return NONE if value is None else str(value)
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1e4:
        return f"{value:,.0f}" if abs(value) < 1e9 else f"{value:.3e}"
    return f"{value:.4g}"


def with_error(value: float, error: float | None, unit: str = "") -> str:
    """A number with its standard error, to two digits of the error; shares as a percentage.

    >>> with_error(12.3456, 0.1234), with_error(0.978, 0.0041, "%"), with_error(0.5, None)
    ('12.35 ± 0.12', '97.80 % ± 0.41 %', '0.5')
    """
    scale, mark = (100.0, " %") if unit == "%" else (1.0, f" {unit}" if unit else "")
    if error is None or not finite(error) or error <= 0:
        said = f"{number(float(f'{scale * value:.4g}'))}{mark}"
        return said if error is None or not finite(error) else f"{said} ± 0{mark}"
    digits = max(0, min(8, 1 - math.floor(math.log10(scale * error))))
    if digits == 8 or abs(scale * value) >= 1e9:
        return f"{scale * value:.4g}{mark} ± {scale * error:.2g}{mark}"
    return f"{scale * value:,.{digits}f}{mark} ± {scale * error:,.{digits}f}{mark}"


def moment(text: object) -> str:
    """A date as files have it, to the minute.

    >>> moment("2026-11-21T23:24:19+00:00"), moment("yesterday")
    ('2026-11-21 23:24 UTC', 'yesterday')
    """
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text)
    if found.tzinfo is None:
        return found.strftime("%Y-%m-%d %H:%M")
    return found.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """A time in the two largest units.

    >>> duration(9), duration(75), duration(7300), duration(200000)
    ('9 s', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 1)} s"
    for size, name, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def shape(of: tuple[int, ...]) -> str:
    """Lengths of the axes: 3 × 32 × 32."""
    return " × ".join(map(str, of))


def plural(n: int, one: str, many: str = "") -> str:
    """A number and what it counts.

    >>> plural(1, "class", "classes"), plural(1200, "step")
    ('1 class', '1,200 steps')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def listed(words: tuple[str, ...] | list[str], most: int = 12) -> str:
    """Words with commas, long lists cut short."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def rows(data: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Plain data as dotted keys and values in words, empty ones left out; parts in a list by their kinds."""
    for key, value in data.items():
        name = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping) and "kind" not in value and value:
            yield from rows(value, name)
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            for i, v in enumerate(value):
                kind = v.get("kind")
                below = f"{name}.{kind}" if kind else f"{name}[{i}]"
                inner = [*rows({k: w for k, w in v.items() if k != "kind"}, below)]
                yield from inner or [(name, str(kind))]
        elif value is not None and value != "" and value != [] and value != {}:
            yield name, said(value)


def said(value: object) -> str:
    """A value of a file: a part by its kind and settings, other things as they are.

    >>> said({"kind": "adams", "order": 4, "clip": False}), said([127.0, 127.0])
    ('adams, order 4, clip no', '127, 127')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if finite(value):
        return number(value) if isinstance(value, float) else str(value)
    if isinstance(value, Mapping) and "kind" in value:
        inner = [f"{k.replace('_', ' ')} {_inner(v)}" for k, v in value.items() if k != "kind" and v not in (None, [])]
        return ", ".join([str(value["kind"]), *inner])
    if isinstance(value, list):
        return ", ".join(_inner(v) for v in value[:6]) + (f", ... ({len(value)} in all)" if len(value) > 6 else "")
    try:
        return config.in_words(value)
    except TypeError:
        return str(value)


def _inner(value: object) -> str:
    """As `said`, in brackets where it has several parts."""
    text = said(value)
    return f"({text})" if isinstance(value, Mapping | list) and "," in text else text


def settings(data: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Every setting of a recipe's plain data by its dotted key, long lists cut short."""
    for key, value in data.items():
        name = f"{where}.{key}" if where else str(key)
        if isinstance(value, Mapping):
            yield from settings(value, name)
        elif isinstance(value, list):
            shown = ", ".join(said(v) for v in value[:8]) + (f", ... ({len(value)} in all)" if len(value) > 8 else "")
            yield name, f"[{shown}]"
        else:
            yield (
                name,
                "none" if value is None else "true" if value is True else "false" if value is False else str(value),
            )
