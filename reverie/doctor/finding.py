"""One line of the doctor's table, and how a check becomes one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from functools import partial
from itertools import product
from typing import Any

from reverie.config import Part, registered


@dataclass(frozen=True)
class Seen:
    """What a check saw."""

    text: str
    ok: bool | None
    """None where there was nothing to check."""
    advice: str = ""
    """Where it failed: what that means, or who failed, in a sentence."""


@dataclass(frozen=True)
class Check:
    """Something to be looked at."""

    group: str
    name: str
    """What is checked."""
    expected: str
    look: Callable[[], Seen]
    advice: str = ""
    """What a failure means and what to do, in a sentence."""


@dataclass(frozen=True)
class Finding:
    """A row of the table."""

    group: str
    check: str
    expected: str
    seen: str
    ok: bool | None
    """None where there was nothing to check."""
    advice: str = ""
    """In a sentence, where it failed."""
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """ok, FAIL, or - where there was nothing to check."""
        return "-" if self.ok is None else "ok" if self.ok else "FAIL"


def find(check: Check) -> Finding:
    """Look. A check that raises has failed: what is broken may break in any way."""
    began = time.perf_counter()
    try:
        seen = check.look()
    except Undefined as why:
        seen = Seen(str(why), None)
    except Exception as error:
        seen = Seen(said(error), False)
    advice = "" if seen.ok is not False else ": ".join(a for a in (seen.advice, check.advice) if a)
    return Finding(check.group, check.name, check.expected, seen.text, seen.ok, advice, time.perf_counter() - began)


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


class Undefined(Exception):  # no fault
    """There is nothing to check, such as a sampler on a schedule that it refuses; the message says why."""


def worst(members: Mapping[str, Callable[[], float]], limit: float, what: str, unit: str = "") -> Seen:
    """The largest of what the members measure, which may be at most `limit`.

    Args:
        members: a name and a measurement each; one that raises has failed, unless it is `Undefined`.
        limit: the largest value allowed.
        what: the members in the plural.
        unit: behind a value.
    """
    values: dict[str, float] = {}
    broken: dict[str, str] = {}
    for name, measure in members.items():
        try:
            value = measure()
        except Undefined:
            continue
        except Exception as error:
            value, broken[name] = math.inf, said(error)
        values[name] = math.inf if math.isnan(value) else value
    if not values:
        return Seen(f"no {what}", None)
    name = max(values, key=lambda k: values[k])
    failed = [k for k in sorted(values, key=lambda k: -values[k]) if not values[k] <= limit]
    shown = [f"{k} ({broken.get(k) or f'{values[k]:.3g}{unit}'})" for k in failed[:3]]
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    verb = "fails" if len(failed) == 1 else "fail"
    extreme = f"worst {broken.get(name) or f'{values[name]:.2g}{unit}'}: {name}" if values[name] > 0 else "none off"
    return Seen(
        f"{len(values)} {what}, {extreme}",
        not failed,
        f"{', '.join(shown)}{more} {verb}" if failed else "",
    )


def over(
    measure: Callable[..., float], members: Mapping[str, tuple[object, ...]], limit: float, what: str, unit: str = ""
) -> Callable[[], Seen]:
    """What a check over many looks at: `worst` of measure(*arguments), the arguments by the member's name."""
    return lambda: worst({name: partial(measure, *given) for name, given in members.items()}, limit, what, unit)


def alone(parts: Mapping[str, object]) -> dict[str, tuple[object, ...]]:
    """Each part as the arguments of a measurement."""
    return {name: (part,) for name, part in parts.items()}


def pairs(parts: Mapping[str, object], schedules: Mapping[str, object]) -> dict[str, tuple[object, ...]]:
    """Each part with each schedule, as the arguments of a measurement."""
    return {f"{k} on {n}": (part, schedule) for (k, part), (n, schedule) in product(parts.items(), schedules.items())}


def defaults(family: type[Part]) -> dict[str, Any]:
    """Every registered part of a family that can be made without settings, by its kind."""
    found = {}
    for kind, cls in registered(family).items():
        with suppress(Exception):  # see `unmade`
            found[kind] = cls()
    return found


def unmade(cls: type[Part]) -> float:
    """0 for a part that can be made without settings, or needs some; what is raised otherwise is raised."""
    needed = (f for f in fields(cls) if f.init and f.default is MISSING and f.default_factory is MISSING)  # type: ignore[arg-type]
    if not any(needed):
        cls()
    return 0.0
