"""Several runs side by side: what differs, curves on top of each other, numbers where they can be compared.

Letters in shapes: R runs.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from reverie import config
from reverie.evaluation.numbers import Evaluation, Number
from reverie.plots import COLOURS
from reverie.recipe import Recipe
from reverie.report import commands, sections
from reverie.report.charts import Curve, Drawer, Panel, Swatch
from reverie.report.found import Found
from reverie.report.history import Damage
from reverie.report.images import Still, opened, stills
from reverie.report.measured import drawn, measured_in, of_samples, value_of, with_arrow
from reverie.report.views import Block, Folded, Heading, Missing, Page, Panels, Pictures, Section, Table, Text
from reverie.report.words import LEGEND, NONE, duration, number, plural, rows, said, settings, shape
from reverie.training.needs import counted
from reverie.version import __version__

ROOM = 300_000
"""Bytes of a run's sheet."""
CURVES = (
    ("Loss", "loss", False, True),
    ("Held-out loss", "validation_loss", False, False),
    ("Learning rate", "lr", True, False),
    ("Norm of the gradient", "grad_norm", True, True),
    ("Speed: steps a second", "steps_per_second", True, False),
)
"""Title, quantity, whether its axis begins at 0, whether it is noisy."""


class Comparison:
    """Runs beside each other.

    Args:
        found: R of them.

    Raises:
        ValueError: fewer than two, or one of them twice.
    """

    def __init__(self, found: Sequence[Found]) -> None:
        if len(found) < 2:
            raise ValueError(f"a comparison needs at least 2 runs; given {len(found)}")
        folders = [one.run.path.resolve() for one in found]
        twice = [str(f) for f in folders if folders.count(f) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is given twice; name each run once")
        self.found = tuple(found)
        self.damage = [Damage(f"{name}/{d.where}", d.why) for name, one in self.named for d in one.damage]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the runs: their folders', with as many folders above them as it takes to tell them apart."""
        parts = [one.run.path.resolve().parts for one in self.found]
        depth = next(d for d in itertools.count(1) if len({p[-d:] for p in parts}) == len(parts))
        return tuple("/".join(p[-depth:]) for p in parts)

    @property
    def named(self) -> list[tuple[str, Found]]:
        """Each run with its name."""
        return list(zip(self.names, self.found, strict=True))

    # ---------------------------------------------------------------------------------- numbers

    @cached_property
    def facts(self) -> tuple[tuple[str, ...], ...]:
        """Rows of what every run has: name, then a value a run."""
        told: dict[str, list[str]] = {}
        for one in self.found:
            for key, value in _facts(one).items():
                told.setdefault(key, []).append(value)
        return tuple((key, *values) for key, values in told.items())

    @cached_property
    def differences(self) -> tuple[tuple[str, ...], ...]:
        """Settings in which not all runs agree: dotted key, then a value a run."""
        order = [field.name for field in dataclasses.fields(Recipe)]
        found = _differing([config.to_data(one.run.recipe) for one in self.found], "")
        return tuple(sorted(found, key=lambda row: order.index(row[0].partition(".")[0])))

    @property
    def same_losses(self) -> bool:
        """Whether losses mean the same: same data, same loss function, process and parameterization."""
        first, *others = ([one.run.facts.fingerprint, *_meaning(one)] for one in self.found)
        return all(other == first for other in others)

    @cached_property
    def protocols(self) -> dict[str, list[tuple[str, Evaluation | None]]]:
        """For each protocol, an evaluation by it of each run, None where there is none.

        Of several by one protocol it is the newest whose samples were drawn as others' were, else the newest.
        """
        ids = list(dict.fromkeys(e.id for one in self.found for e in one.evaluations.values()))
        return {i: list(zip(self.names, _alike([_by(one, i) for one in self.found]), strict=True)) for i in ids}

    @cached_property
    def tables(self) -> dict[str, Table]:
        """For each protocol that at least two runs were judged by, their numbers."""
        shared = {i: es for i, es in self.protocols.items() if sum(e is not None for _, e in es) > 1}
        return {i: _numbers([e for _, e in es], self.names) for i, es in shared.items()}

    def _drawn(self, protocol: str) -> str:
        """How the samples of a table came about, run by run."""
        each = [(name, drawn(e)) for name, e in self.protocols[protocol] if e is not None]
        if len({words for _, words in each}) == 1:
            return f"Each of {each[0][1]}."
        return f"{'; '.join(f'{name}: {words}' for name, words in each)}."

    @property
    def alone(self) -> tuple[str, ...]:
        """In words, the protocols that one run alone was judged by."""
        return tuple(
            f"protocol {i}: {next(name for name, e in es if e is not None)} alone"
            for i, es in self.protocols.items()
            if i not in self.tables
        )

    @property
    def apart(self) -> str:
        """Why these are not shown, in a sentence; empty where there are none."""
        if not self.alone:
            return ""
        return f"Numbers of different protocols cannot be compared. Not shown: {'; '.join(self.alone)}."

    # ------------------------------------------------------------------------------------- page

    def page(self, date: str) -> Page:
        """All that is written.

        Args:
            date: of the page, in words.
        """
        parts = (
            Section("facts", "At a glance", [Table(("", *self.names), self.facts)]),
            Section("settings", "Settings that differ", self._settings()),
            Section("curves", "Curves", self._curves(Drawer())),
            Section("evaluation", "Evaluation", self._evaluation()),
            Section("samples", "Samples", self._sheets()),
        )
        damage = tuple((d.where, d.why) for d in self.damage)
        title = f"{plural(len(self.found), 'run')} compared"
        return Page(title, ", ".join(self.names), (), parts, damage, f"Made by Reverie {__version__}, {date}")

    def _settings(self) -> list[Block]:
        if not self.differences:
            return [Text("None: all settings are the same.")]
        return [Table(("setting", *self.names), self.differences, left=1 + len(self.names))]

    def _curves(self, drawer: Drawer) -> list[Block]:
        style = _styles(self.names)
        panels: list[Panel | None] = []
        for title, key, zero, noisy in CURVES:
            drawn = [
                Curve(s.label, one.history.series(key), s.colour, s.dashed, noisy)
                for s, one in zip(style, self.found, strict=True)
            ]
            panels.append(drawer.lines(title, drawn, zero=zero))
        shown = tuple(_unlabelled(p) for p in panels if p is not None)
        if not shown:
            return [Missing("None of these runs has measured anything while it trained.")]
        warning = Text("These runs differ in data, loss or process, so their losses are not of one scale.")
        return [*([] if self.same_losses else [warning]), Panels(shown, style)]

    def _evaluation(self) -> list[Block]:
        blocks: list[Block] = []
        for i, table in self.tables.items():
            blocks += [Heading(f"Protocol {i}"), Text(self._drawn(i)), table]
            one = next(e for _, e in self.protocols[i] if e is not None)
            blocks.append(Folded("Protocol", tuple(rows({k: v for k, v in one.protocol.items() if k != "samples"}))))
        if self.tables:
            told = "The best value of a row is bold; differences within the standard errors say nothing."
            blocks.insert(0, Text(told, quiet=True))
        if self.alone:
            blocks.append(Text(self.apart))
        if not blocks:
            blocks.append(Missing("None of these runs has been evaluated yet.", self._commands()))
        elif not self.tables:
            blocks.append(Missing("To judge all of them alike:", self._commands()))
        return blocks

    def _commands(self) -> str:
        return "\n".join(commands.with_run("evaluate", one.run) for one in self.found)

    def _sheets(self) -> list[Block]:
        made: list[tuple[Still, str]] = []
        for name, one in self.named:
            if not one.sheets:
                continue
            step, path = list(one.sheets.items())[-1]
            try:
                picture = opened(path)
            except ValueError as error:
                self.damage.append(Damage(f"{name}/samples/{path.name}", str(error)))
                continue
            made.append((stills([picture], [f"Samples of {name}"], ROOM)[0], f"{name}, step {step:,}"))
        if not made:
            return [Missing("None of these runs has drawn samples while it trained.")]
        return [Text("The newest sheet of each run; the same seeds, so runs of one shape begin from the same noise."),
                Pictures(tuple(made), beside=True)]  # fmt: skip


def _facts(one: Found) -> dict[str, str]:
    run, told = one.run, one.history.series
    loss, held_out = told("loss"), told("validation_loss")
    sample = run.recipe.sample
    steps = len(sample.grid(run.schedule)) - 1
    return {
        "data": sections.source(one),
        "example": shape(run.facts.shape),
        "trained on": number(run.facts.train),
        "held out": number(run.facts.validation),
        "classes": number(len(run.classes)) if run.classes else "none",
        "network": run.recipe.net.kind if run.recipe.net else NONE,
        "parameters": counted(one.parameters),
        "steps": f"{one.step:,}",
        "time of steps": duration(one.history.seconds) if one.history.seconds else NONE,
        "training loss": number(loss.values[-1]) if len(loss) else NONE,
        "held-out loss": number(held_out.values[-1]) if len(held_out) else NONE,
        "sampling": f"{sample.sampler.kind}, {steps} steps",
        "guidance": f"{sample.guidance:g}",
    }


def _meaning(one: Found) -> list[Mapping[str, Any]]:
    recipe = one.run.recipe
    return [config.to_data(part) for part in (recipe.loss, recipe.schedule, recipe.parameterization, recipe.space)]


def _differing(each: Sequence[Any], where: str) -> Iterator[tuple[str, ...]]:
    """Dotted key and values in words where plain data differ; parts of several kinds in one row."""
    if all(one == each[0] for one in each):
        return
    tables = [one for one in each if isinstance(one, Mapping)]
    if len(tables) < len(each) or len({one.get("kind") for one in tables}) > 1:
        told = [_word(one) for one in each]
        if len(set(told)) > 1:
            yield where, *told
        return
    for key in dict.fromkeys(key for one in tables for key in one):
        yield from _differing([one.get(key) for one in tables], f"{where}.{key}" if where else key)


def _word(value: object) -> str:
    """A setting: a part by its kind and settings."""
    if isinstance(value, Mapping):
        return said(value)
    return dict(settings({"": value})).get("", NONE)


def _by(one: Found, protocol: str) -> list[Evaluation]:
    """The evaluations of a run by a protocol, the newest first."""
    return [e for e in reversed(list(one.evaluations.values())) if e.id == protocol]


def _alike(each: Sequence[Sequence[Evaluation]]) -> list[Evaluation | None]:
    """One of each, drawn as most others are where there are several."""
    known = Counter(words for some in each for words in {drawn(e) for e in some})
    return [max(some, key=lambda e: known[drawn(e)], default=None) for some in each]


def _styles(names: Sequence[str]) -> tuple[Swatch, ...]:
    """A colour a run; where colours come again, they are dashed."""
    return tuple(
        Swatch(name, COLOURS[i % len(COLOURS)], dashed=i // len(COLOURS) % 2 == 1) for i, name in enumerate(names)
    )


def _unlabelled(panel: Panel) -> Panel:
    """The legend stands above all panels."""
    return Panel(panel.title, panel.svg, (), panel.note)


def _numbers(evaluations: Sequence[Evaluation | None], names: Sequence[str]) -> Table:
    """A row a number, a column a run; the best of a row stands out where better is said."""
    keys = list(dict.fromkeys((n.name, n.extractor) for e in evaluations if e is not None for n in of_samples(e)))
    table, strong = [], set()
    for r, key in enumerate(keys):
        found = [_of(e, key) for e in evaluations]
        known = [n for n in found if n is not None]
        floors = {n.floor: value_of(n, n.floor) for n in known if n.floor is not None}
        cells = [NONE if n is None else value_of(n, n.value, n.error) for n in found]
        title = with_arrow(measured_in(known[0]), known[0].better)
        table.append((title, *cells, " or ".join(floors.values()) or NONE))
        if known[0].better in ("lower", "higher") and len(known) > 1:
            best = (min if known[0].better == "lower" else max)(n.value for n in known)
            strong |= {(r, 1 + i) for i, n in enumerate(found) if n is not None and n.value == best}
    return Table(("", *names, "real examples get"), tuple(table), strong=frozenset(strong), note=LEGEND)


def _of(one: Evaluation | None, key: tuple[str, str]) -> Number | None:
    if one is None:
        return None
    return next((n for n in one.numbers if (n.name, n.extractor) == key), None)
