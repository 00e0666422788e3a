"""Sections of what was measured of a run: evaluation, likelihood, audit, tuning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reverie.audit import findings
from reverie.audit.findings import Audit, Finding
from reverie.evaluation import numbers
from reverie.evaluation.numbers import Evaluation, Number
from reverie.report import commands
from reverie.report.charts import Drawer
from reverie.report.found import CURVES, LIKELIHOOD, Found
from reverie.report.history import Damage, finite
from reverie.report.images import Still, opened, stills
from reverie.report.views import (
    Block,
    Facts,
    Folded,
    Heading,
    Missing,
    Panels,
    Pictures,
    Section,
    Table,
    Text,
    Verdict,
)  # fmt: skip
from reverie.report.words import NONE, moment, number, rows, said, with_error

ROOM = 280_000
"""Bytes of a picture that others drew."""
MOST = 4
"""Such pictures a section, and evaluations that are shown in full; the newest."""


def evaluation(found: Found, drawer: Drawer, damage: list[Damage]) -> Section:
    """Numbers with their protocols, curves of quality against cost, and what was measured during training."""
    blocks: list[Block] = []
    during = drawer.judged(found.history)
    if during:
        blocks += [Heading("During training", "Averaged weights, by a small protocol."), Panels(tuple(during))]
    for name, one in newest(found.evaluations)[:MOST]:
        blocks += _evaluated(name, one)
    if not found.evaluations:
        text = "No samples of this run have been compared with real examples yet."
        blocks.append(Missing(text, commands.with_run("evaluate", found.run)))
    blocks += _pictures(found, numbers.FOLDER, damage)
    for name, data in found.curves.items():
        blocks += _curve(name, data)
    blocks += _pictures(found, CURVES, damage)
    if not found.curves:
        text = "Quality against the cost of a sample has not been measured."
        blocks.append(Missing(text, commands.with_run("evaluate", found.run, "--curve", "5,10,20,50")))
    return Section("evaluation", "Evaluation", blocks)


def newest(evaluations: Mapping[str, Evaluation]) -> list[tuple[str, Evaluation]]:
    """Name and evaluation, the newest first."""
    return list(evaluations.items())[::-1]


def value_of(one: Number, value: float | None, error: float | None = None) -> str:
    """A value of a number, to the digits that its error leaves."""
    if value is None:
        return NONE
    if error is None and one.error is not None and one.error > 0:  # the same digits as beside the error
        return with_error(value, one.error, one.unit).partition(" ±")[0]
    return with_error(value, error, one.unit)


def measured_in(one: Number) -> str:
    """Its title, and in whose features."""
    return f"{one.title} ({one.extractor})" if one.extractor else one.title


def _evaluated(name: str, one: Evaluation) -> Iterator[Block]:
    made, real = ({**(one.protocol.get(key) or {})} for key in ("samples", "reference"))
    note = f"protocol {one.id}" + (f", {moment(one.about['date'])}" if one.about.get("date") else "")
    yield Heading(name, note)
    if made.get("n") and real.get("n"):
        yield Text(f"{made['n']:,} samples beside {real['n']:,} real examples.")
    head = ("", "in features of", "value ± standard error", "real examples get", "better")
    yield Table(
        head,
        tuple(
            (n.title, n.extractor or NONE, value_of(n, n.value, n.error), value_of(n, n.floor), n.better)
            for n in one.numbers
        ),
        left=2,
        words=1,
    )
    for part in one.left_out:
        where = f" ({part.extractor})" if part.extractor else ""
        yield Text(f"Not measured: {part.name}{where}: {part.why}", quiet=True)
    if one.notes:
        yield Folded("How to read these numbers", one.notes)
    yield Folded(f"Protocol {one.id}", (*rows(dict(one.protocol)), *rows(dict(one.about), "about")))


def _curve(name: str, data: Mapping[str, Any]) -> Iterator[Block]:
    """Quality against cost, as the file has it."""
    points = [p for p in data.get("points") or () if isinstance(p, dict) and isinstance(p.get("number"), dict)]
    points = [p for p in points if finite(p["number"].get("value"))]
    if not points:
        return
    first = points[0]["number"]
    title = f"{first.get('title', 'quality')}, {first.get('extractor', '')}".rstrip(", ")
    yield Heading(f"Quality against cost: {name}", f"protocol {data['id']}" if data.get("id") else "")
    table = []
    for p in points:
        told, unit = p["number"], str(first.get("unit", ""))
        sampler = f"{p.get('sampler', '?')}{', tuned' if p.get('tuned') else ''}"
        costs = (number(p.get("evaluations")), number(p.get("steps")), number(p.get("seconds")))
        table.append((sampler, *costs, with_error(told["value"], told.get("error"), unit)))
    head = ("sampler", "evaluations", "steps", "seconds for 1,000", title)
    yield Table(head, tuple(table))


def likelihood(found: Found, damage: list[Damage]) -> Section:
    """Bits per dimension."""
    blocks: list[Block] = []
    table, protocols = [], []
    for name, data in found.likelihoods.items():
        protocol = data.get("protocol")
        told = protocol if isinstance(protocol, dict) else {}
        values = [_bits(data.get(key)) for key in ("bound", "ode")]
        if values == [NONE, NONE]:
            damage.append(Damage(f"{LIKELIHOOD}/{name}.json", "it holds neither a bound nor a likelihood by the flow"))
            continue
        table.append((name, str(told.get("split", NONE)), str(told.get("examples", NONE)), *values))
        protocols.append(Folded(f"Protocol of {name}", tuple(rows(told))))
    if not table:
        text = "The likelihood of held-out examples has not been measured."
        return Section("likelihood", "Likelihood", [Missing(text, commands.with_run("likelihood", found.run))])
    blocks.append(Text("Bits per dimension, with the standard error over the examples; lower is better."))
    blocks.append(Table(("", "split", "examples", "variational bound", "flow ODE"), tuple(table), left=3))
    return Section("likelihood", "Likelihood", [*blocks, *_pictures(found, LIKELIHOOD, damage), *protocols])


def _bits(part: object) -> str:
    if not isinstance(part, dict) or not finite(part.get("bits_per_dim")):
        return NONE
    error = part.get("standard_error")
    return with_error(part["bits_per_dim"], error if finite(error) else None)


# -------------------------------------------------------------------------------------- audit


def audit(found: Found, damage: list[Damage]) -> Section:
    """Whether the model memorises: the newest audit."""
    if not found.audits:
        text = "Nobody has looked yet whether this model copies its training examples."
        return Section("audit", "Audit", [Missing(text, commands.with_run("audit", found.run))])
    name, one = list(found.audits.items())[-1]
    tone = {findings.MEMORISES: "bad", findings.NO_SIGN: "good"}.get(one.verdict.word, "neutral")
    blocks: list[Block] = [Verdict(one.verdict.word, one.verdict.why, tone)]
    head = ("", "in features of", "value", "95 % interval", "an honest model has", "p, adjusted", "n")
    blocks.append(Table(head, tuple(_finding(f) for f in one.findings), left=2))
    blocks += [Text(f"Not tested: {part.name}: {part.why}", quiet=True) for part in one.left_out]
    if notes := tuple((f.title, f.note) for f in one.findings if f.note):
        blocks.append(Folded("How to read these numbers", notes))
    blocks += _pictures(found, findings.FOLDER, damage)
    blocks += _levels(one)
    blocks += _duplicates(one)
    blocks.append(Folded(f"Protocol of {name}", (*rows(dict(one.protocol)), *rows(dict(one.about), "about"))))
    if len(found.audits) > 1:
        blocks.append(Text(f"The newest of {len(found.audits)} audits.", quiet=True))
    return Section("audit", "Audit", blocks)


def _finding(f: Finding) -> tuple[str, ...]:
    def written(value: float | None) -> str:
        return NONE if value is None else with_error(float(f"{value:.4g}"), None, f.unit)

    interval = NONE if f.low is None or f.high is None else f"{written(f.low)} to {written(f.high)}"
    p = f.adjusted if f.adjusted is not None else f.p
    chance = NONE if p is None else "< 0.0001" if p < 1e-4 else f"{p:.2g}"
    return f.title, f.space or NONE, written(f.value), interval, written(f.expected), chance, f"{f.n:,}"


def _levels(one: Audit) -> Iterator[Block]:
    """The gap between losses by noise level."""
    if one.levels:
        yield Heading("Loss by noise level, trained on and held out")
        head = ("t", "trained on", "held out", "gap ± standard error", "area", "95 % interval", "p, adjusted")
        yield Table(
            head,
            tuple(
                (f"{v.t:.3g}", number(v.train), number(v.held_out), with_error(v.gap, v.error), f"{v.auc:.3f}",
                 f"{v.low:.3f} to {v.high:.3f}", f"{v.p:.2g}")
                for v in one.levels
            ),
        )  # fmt: skip


def _duplicates(one: Audit) -> Iterator[Block]:
    if (d := one.duplicates) is not None:
        yield Facts(
            (
                ("identical training examples", number(d.identical)),
                ("distinct ones that occur more than once", with_error(d.repeated, None, "%")),
                (f"with a near twin, of {d.looked_at:,} looked at", with_error(d.twins, None, "%")),
                ("near-copies among the samples", number(d.copied)),
                ("of these explained by duplicates", number(d.explained)),
            )
        )


def _pictures(found: Found, folder: str, damage: list[Damage]) -> Iterator[Block]:
    """The newest pictures of a folder."""
    made: list[tuple[Still, str]] = []
    for path in sorted(found.pictures.get(folder, ()), key=_age)[-MOST:]:
        try:
            picture = opened(path)
        except ValueError as error:
            damage.append(Damage(f"{folder}/{path.name}", str(error)))
            continue
        made.append((stills([picture], [path.stem], ROOM)[0], path.stem))
    if made:
        yield Pictures(tuple(made))


def _age(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, path.name


# ------------------------------------------------------------------------------------- tuning


def tuning(found: Found) -> Section:
    """Grids fitted to the model, beside others."""
    blocks: list[Block] = []
    for one in found.tunings:
        names = list(dict.fromkeys(name for c in one.counts for name in c.errors))
        clip = ", clipped" if one.clip else ""
        blocks.append(Heading(f"{one.sampler.kind}{clip}, guidance {one.guidance:g}"))
        table, strong = [], set()
        for r, c in enumerate(one.counts):
            errors = [c.errors[name].rms if name in c.errors else None for name in names]
            table.append((str(c.evaluations), str(c.steps), *(NONE if e is None else f"{e:.2g}" for e in errors)))
            known = [e for e in errors if e is not None]
            strong |= {(r, 2 + i) for i, e in enumerate(errors) if known and e == min(known)}
        blocks.append(Table(("evaluations", "steps", *names), tuple(table), left=0, strong=frozenset(strong)))
        about = one.counts[-1].about
        blocks.append(Folded("How it was fitted", tuple((k, said(v)) for k, v in about.items() if v is not None)))
    if not blocks:
        text = "No time grid has been fitted to the present weights."
        return Section(
            "tuning", "Sampler tuning", [Missing(text, commands.with_run("tune", found.run, "--nfe", "5,10,20"))]
        )
    first = Text(
        "Root mean square distance from the exact solution of the flow, by grid; the least of each row is bold."
    )
    return Section("tuning", "Sampler tuning", [first, *blocks])
