"""An evaluation as text: a table for each extractor, and the protocol in a few lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from reverie import config
from reverie.cli.notes import entry, width

if TYPE_CHECKING:
    from reverie.config import Plain
    from reverie.evaluation.curve import Curve
    from reverie.evaluation.numbers import Evaluation, Number


def print_evaluation(found: Evaluation, notes: bool = False) -> None:
    """What was judged and how, then the numbers, then what was left out; with what is to know of each number."""
    for name in ("samples", "reference", "floor"):
        if name in found.protocol:
            print(entry(name, _told(found.protocol[name])))
    print(entry("protocol", f"{found.id}: only numbers of the same protocol can be compared"))
    names = list(dict.fromkeys(n.extractor for n in found.numbers))
    about = {part.get("name", part["kind"]): part for part in found.protocol.get("extractors", [])}
    for name in names:
        print()
        _table(name, about.get(name, {}), [n for n in found.numbers if n.extractor == name])
    print()
    if any(number.matched is not None for number in found.numbers):
        text = "of real examples there are fewer than samples: compare them with the number of as many samples"
        print(entry("note", text))
    for title, text in found.notes if notes else ():
        print(entry("note", f"{title}: {text}"))
    if found.notes and not notes:
        print(entry("note", "what each number sees, and its bias: --notes, or docs/evaluation.md"))
    for part in found.left_out:
        print(entry("left out", f"{part.name}{f' ({part.extractor})' * bool(part.extractor)}: {part.why}"))


def print_curve(found: Curve) -> None:
    """What was judged and how, then a line for each sampler and cost."""
    from rich.console import Console
    from rich.table import Table

    for name in ("samples", "reference", "floor"):
        print(entry(name, _told(found.protocol[name])))
    print(entry("protocol", f"{found.id}: only numbers of the same protocol can be compared"))
    number = found.points[0].number
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"\n{number.title}, {number.extractor}", title_justify="left")
    table.title_style = "bold"
    table.add_column("sampler", no_wrap=True)
    for name in ("evaluations", "steps", "seconds / 1000", number.title, "± error", "worth its cost in"):
        table.add_column(name, justify="right", no_wrap=True)
    fronts = {cost: found.front(cost) for cost in ("evaluations", "seconds")}
    for point in sorted(found.points, key=lambda p: (p.evaluations, p.name)):
        error = "-" if point.number.error is None else written(point.number, point.number.error)
        worth = ", ".join(cost for cost, front in fronts.items() if point in front)
        values = (point.name, str(point.evaluations), str(point.steps), f"{point.seconds:.3g}")
        table.add_row(*values, written(point.number, point.number.value), error, worth)
    Console(highlight=False, width=max(90, width())).print(table)
    if number.floor is not None:
        print(entry("real", f"{written(number, number.floor)}, {number.floor_n} real examples"))


def written(number: Number, value: float | None) -> str:
    """A value of this number, to the digits that its error leaves; shares in percent."""
    if value is None:
        return "-"
    scale, unit = (100.0, " %") if number.unit == "%" else (1.0, "")
    error, size = scale * (number.error or 0.0), abs(scale * number.value)
    if error > 0:
        digits = 1 - math.floor(math.log10(error))
    elif unit:
        digits = 1
    else:
        digits = 4 if size == 0 else 3 - math.floor(math.log10(size))
    return f"{scale * value:.{min(max(digits, 0), 8)}f}{unit}"


def _table(name: str, about: dict[str, Plain], numbers: list[Number]) -> None:
    from rich.console import Console
    from rich.table import Table

    digest = f" (weights {about['digest']})" if about.get("digest") else ""
    table = Table(box=None, padding=(0, 2, 0, 0), title=f"{name or 'others'}{digest}", title_justify="left")
    table.title_style = "bold"
    table.add_column("", no_wrap=True)
    sizes = sorted({number.floor_n for number in numbers if number.floor_n is not None and number.matched is not None})
    like = " or ".join(f"{n:,}" for n in sizes)
    columns = ("value", "± error", *([f"of {like}", f"real, {like}"] if sizes else ["real"]), "better")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for number in numbers:
        error = "-" if number.error is None else written(number, number.error)
        alike = number.value if number.matched is None and number.floor is not None else number.matched
        compared = (written(number, alike),) if sizes else ()
        floor = written(number, number.floor)
        table.add_row(number.title, written(number, number.value), error, *compared, floor, number.better)
    Console(highlight=False, width=max(60, width())).print(table)


def _told(part: dict[str, Plain]) -> str:
    """A part of a protocol on one line."""
    first = f"{part['n']:,} of {part['source']}" if "n" in part else str(part.get("source", ""))
    left_out = ("n", "source", "shape", "image", "run", "augmented", "available", "choice_seed")
    rest = [f"{key} {_value(value)}" for key, value in part.items() if key not in left_out and value not in (None, "")]
    return ", ".join([first, *rest])


def _value(value: Plain) -> str:
    if isinstance(value, dict):
        return config.in_words(value) if "kind" in value else ", ".join(f"{k} {_value(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
