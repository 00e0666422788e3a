"""The section of evaluations: numbers with their protocols, and quality against cost.

Letters in shapes: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from reverie.evaluation import numbers
from reverie.evaluation.numbers import Evaluation, Number
from reverie.report import commands
from reverie.report.charts import Drawer
from reverie.report.found import CURVES, Found
from reverie.report.history import Damage, finite
from reverie.report.measured import drawn, of_samples, pictures, ranked, value_of, with_arrow
from reverie.report.views import Block, Details, Folded, Heading, Missing, Panels, Section, Table, Text
from reverie.report.words import LEGEND, moment, number, rows, with_error

FOLDED, SHOWN = 12, 4
"""Other evaluations, and curves, on a page at the most; the newest."""
COSTS = ("evaluations", "seconds")


def section(found: Found, drawer: Drawer, damage: list[Damage]) -> Section:
    """Numbers with their protocols, curves of quality against cost, and what was measured during training."""
    blocks: list[Block] = []
    order = ranked(found.evaluations)
    for name, one in order[:1]:
        blocks += [Heading(drawn(one), _dated(name, one)), *evaluated(one)]
    blocks += [Details(drawn(one), _dated(name, one), tuple(evaluated(one))) for name, one in order[1 : 1 + FOLDED]]
    if len(order) > 1 + FOLDED:
        blocks.append(Text(f"{len(order) - 1 - FOLDED} older evaluations are in {numbers.FOLDER}/.", quiet=True))
    if not order:
        text = "No samples of this run have been compared with real examples yet."
        blocks.append(Missing(text, commands.with_run("evaluate", found.run)))
    blocks += pictures(found, numbers.FOLDER, damage, lambda name: name)
    during = drawer.judged(found.history)
    if during:
        blocks += [Heading("During training", "averaged weights, by a small protocol"), Panels(tuple(during))]
    return Section("evaluation", "Evaluation", [*blocks, *_curves(found, damage)])


def _dated(name: str, one: Evaluation) -> str:
    date = f", {moment(one.about['date'])}" if one.about.get("date") else ""
    return f"{name}, protocol {one.id}{date}"


def evaluated(one: Evaluation) -> Iterator[Block]:
    """The numbers of samples, what is known of them, and the protocol."""
    made, real = ((one.protocol.get(key) or {}).get("n") for key in ("samples", "reference"))
    if made and real:
        yield Text(f"{made:,} samples beside {real:,} real examples.")
    found = of_samples(one)
    if found:
        yield Table(
            ("", "value ± standard error", "real examples get"),
            tuple((with_arrow(n.title, n.better), value_of(n, n.value, n.error), value_of(n, n.floor)) for n in found),
            small=_small(found),
            note=LEGEND,
        )
    for part in one.left_out:
        where = f" ({part.extractor})" if part.extractor else ""
        yield Text(f"Not measured: {part.name}{where}: {part.why}", quiet=True)
    if notes := tuple(dict.fromkeys((n.title, n.note) for n in found if n.note)):
        yield Folded("How to read these numbers", notes)
    yield Folded(f"Protocol {one.id}", (*rows(dict(one.protocol)), *rows(dict(one.about), "about")))


def _small(found: Sequence[Number]) -> dict[tuple[int, int], str]:
    """Below a name whose features they are; below a value, where the floor is of fewer, that of as many samples."""
    small = {(r, 0): f"in {n.extractor}" for r, n in enumerate(found) if n.extractor}
    for r, n in enumerate(found):
        if n.floor_n is not None and n.matched is not None:
            small |= {(r, 1): f"{value_of(n, n.matched)} of {n.floor_n:,}", (r, 2): f"{n.floor_n:,} of them"}
    return small


# -------------------------------------------------------------------------------------- curves


def _curves(found: Found, damage: list[Damage]) -> Iterator[Block]:
    """Quality against cost: the newest measurement, and others folded."""
    shown = 0
    for name, data in list(found.curves.items())[::-1][:SHOWN]:
        table = _curve(data)
        if table is None:
            continue
        note = f"{name}, protocol {data['id']}" if data.get("id") else name
        blocks = (table, *pictures(found, CURVES, damage, lambda _: "quality against cost", name))
        if shown == 0:
            yield Heading("Quality against cost", note)
            yield from blocks
        else:
            yield Details("Quality against cost", note, blocks)
        shown += 1
    if not shown:
        yield from pictures(found, CURVES, damage, lambda _: "quality against cost")
        text = "Quality against the cost of a sample has not been measured."
        yield Missing(text, commands.with_run("evaluate", found.run, "--curve", "5,10,20,50"))


def _curve(data: Mapping[str, Any]) -> Table | None:
    """Points as the file has them, by their evaluations; costs stand out where no point as cheap is better."""
    points = {i: p for i, p in enumerate(data.get("points") or ()) if isinstance(p, dict) and _value(p) is not None}
    if not points:
        return None

    def order(i: int) -> tuple[float, float]:
        cost = points[i].get("evaluations")
        return cost if finite(cost) else 0.0, points[i]["number"]["value"]

    first, table, small, strong = next(iter(points.values()))["number"], [], {}, set()
    fronts = [_front(data, cost) for cost in COSTS]
    for r, i in enumerate(sorted(points, key=order)):
        p = points[i]
        told = p["number"]
        value = with_error(told["value"], told.get("error"), str(first.get("unit", "")))
        table.append((str(p.get("sampler", "?")), *(number(p.get(cost)) for cost in COSTS), value.partition(" ±")[0]))
        if " ±" in value:
            small[r, 1 + len(COSTS)] = f"±{value.partition(' ±')[2]}"
        small[r, 0] = f"{number(p.get('steps'))} steps{', tuned' if p.get('tuned') else ''}"
        strong |= {(r, 1 + c) for c, front in enumerate(fronts) if i in front}
    features = f", in {first['extractor']}" if first.get("extractor") else ""
    title = with_arrow(f"{first.get('title', 'quality')}{features}", str(first.get("better", "")))
    floor = first.get("floor")
    real = f" Real examples get {with_error(floor, None, str(first.get('unit', '')))}." if finite(floor) else ""
    note = f"Bold: worth its cost, for nothing as cheap here is better. Seconds are of 1,000 samples.{real}"
    return Table(("", *COSTS, title), tuple(table), strong=frozenset(strong), small=small, note=note)


def _value(point: Mapping[str, Any]) -> float | None:
    told = point.get("number")
    value = told.get("value") if isinstance(told, dict) else None
    return value if finite(value) else None


def _front(data: Mapping[str, Any], cost: str) -> frozenset[int]:
    """The points worth their cost, by their place in the file."""
    fronts = data.get("pareto")
    told = fronts.get(cost) if isinstance(fronts, dict) else None
    return frozenset(i for i in told if type(i) is int) if isinstance(told, list) else frozenset()
