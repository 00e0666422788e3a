"""The section of audits: verdict, findings, pictures, losses by noise level, duplicates.

Letters in shapes: none.
"""

from __future__ import annotations

from collections.abc import Iterator

from reverie.audit import findings
from reverie.audit.findings import Audit, Finding, Level
from reverie.report import commands
from reverie.report.found import Found
from reverie.report.history import Damage
from reverie.report.measured import pictures
from reverie.report.views import Block, Facts, Folded, Heading, Missing, Section, Table, Text, Verdict
from reverie.report.words import NONE, number, rows, with_error

CAPTIONS = {
    "pairs": "samples and their nearest training examples",
    "distances": "distances to the nearest training example",
}


def section(found: Found, damage: list[Damage]) -> Section:
    """Whether the model memorises: the newest audit."""
    if not found.audits:
        text = "Nobody has looked yet whether this model copies its training examples."
        return Section("audit", "Audit", [Missing(text, commands.with_run("audit", found.run))])
    name, one = list(found.audits.items())[-1]
    seen = [*pictures(found, findings.FOLDER, damage, _caption, f"{name}-")]
    blocks = [*looked(one, seen), Folded(f"Protocol of {name}", told(one))]
    if len(found.audits) > 1:
        blocks.append(Text(f"The newest of {len(found.audits)} audits.", quiet=True))
    return Section("audit", "Audit", blocks)


def _caption(name: str) -> str:
    return CAPTIONS.get(name.rpartition("-")[2], name)


def told(one: Audit) -> tuple[tuple[str, str], ...]:
    """Its protocol, line by line."""
    return *rows(dict(one.protocol)), *rows(dict(one.about), "about")


def looked(one: Audit, seen: list[Block]) -> Iterator[Block]:
    """Verdict and findings, with these pictures."""
    tone = {findings.MEMORISES: "bad", findings.NO_SIGN: "good"}.get(one.verdict.word, "neutral")
    yield Verdict(one.verdict.word, one.verdict.why, tone)
    yield Table(
        ("", "value", "an honest model has", "p"),
        tuple((f.title, said(f, f.value), said(f, f.expected), _p(f.p)) for f in one.findings),
        small={(r, c): text for r, f in enumerate(one.findings) for c, text in _below(f).items()},
        note="Below a value: its interval of 95 %. p is of one test alone; below it that adjusted "
        "for the number of tests, by which is decided. A finding without an adjusted p explains, and decides nothing.",
    )
    for part in one.left_out:
        yield Text(f"Not tested: {part.name}: {part.why}", quiet=True)
    if notes := tuple((f.title, f.note) for f in one.findings if f.note):
        yield Folded("How to read these numbers", notes)
    yield from seen
    yield from _levels(one)
    yield from _duplicates(one)


def said(f: Finding, value: float | None) -> str:
    """A value of a finding, shares to a tenth of a per cent.

    >>> said(Finding("a", "a", 0.0123, 9, unit="%"), 0.01234), said(Finding("a", "a", 0.51, 9), 0.50987)
    ('1.2 %', '0.51')
    """
    if value is None:
        return NONE
    if f.unit == "%":
        return "< 0.1 %" if 0 < value < 0.0005 else f"{100 * value:.1f} %"
    return number(float(f"{value:.3g}"))


def _below(f: Finding) -> dict[int, str]:
    """What stands in small print below the name and the value."""
    where = f"in {f.space}, " if f.space else ""
    found = {0: f"{where}of {f.n:,}"}
    if f.low is not None and f.high is not None:
        found[1] = f"{said(f, f.low)} to {said(f, f.high)}"
    if f.adjusted is not None:
        found[3] = f"adjusted {_p(f.adjusted)}"
    return found


def _p(p: float | None) -> str:
    return NONE if p is None else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _levels(one: Audit) -> Iterator[Block]:
    """The gap between losses by noise level."""
    if one.levels:
        yield Heading("Loss by noise level, trained on and held out")
        yield Table(
            ("t", "trained on", "held out", "gap", "area", "p, adjusted"),
            tuple(
                (f"{v.t:.3g}", number(v.train), number(v.held_out), _gap(v)[0], f"{v.auc:.3f}", _p(v.p))
                for v in one.levels
            ),
            small={(r, c): text for r, v in enumerate(one.levels)
                   for c, text in ((3, _gap(v)[1]), (4, f"{v.low:.3f} to {v.high:.3f}"))},
            left=0,
            note="Below a gap its standard error, below an area its interval of 95 %.",
        )  # fmt: skip


def _gap(v: Level) -> tuple[str, str]:
    value, _, error = with_error(v.gap, v.error).partition(" ±")
    return value, f"±{error}"


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
