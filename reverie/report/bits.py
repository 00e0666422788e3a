"""The section of the likelihood: bits per dimension, from files of their own and from evaluations.

Letters in shapes: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reverie.evaluation.numbers import Evaluation
from reverie.report import commands
from reverie.report.found import LIKELIHOOD, Found
from reverie.report.history import Damage, finite
from reverie.report.measured import LIKELIHOOD_NUMBERS, pictures
from reverie.report.views import Block, Folded, Missing, Section, Table, Text
from reverie.report.words import NONE, rows, with_error

KEYS = ("bound", "ode")
TWO = (
    "The bound is of the chain that samples step by step with fresh noise, the flow ODE of the deterministic flow: two "
    "generative models of one network, so either may be the lower one."
)


@dataclass(frozen=True)
class Bits:
    """One measurement: values in bits per dimension with their standard error, by the names of `KEYS`."""

    name: str
    split: str
    examples: str
    values: Mapping[str, tuple[float, float | None]]
    protocol: Mapping[str, Any]

    def said(self, key: str) -> str:
        """A value with its error."""
        return with_error(*self.values[key]) if key in self.values else NONE


def measured(found: Found) -> Iterator[Bits]:
    """All measurements of a run; those of a file that holds no value have none."""
    for name, data in found.likelihoods.items():
        values = {}
        for key in KEYS:
            part = _table(data.get(key))
            if finite(part.get("bits_per_dim")):
                error = part.get("standard_error")
                values[key] = part["bits_per_dim"], error if finite(error) else None
        yield _made(name, values, _table(data.get("protocol")))
    for name, one in found.evaluations.items():
        values = _of(one)
        if values:
            yield _made(name, values, _table(one.protocol.get("likelihood")))


def _of(one: Evaluation) -> dict[str, tuple[float, float | None]]:
    known = {f"{LIKELIHOOD_NUMBERS}_{key}": key for key in KEYS}
    return {known[n.name]: (n.value, n.error) for n in one.numbers if n.name in known}


def _made(name: str, values: Mapping[str, tuple[float, float | None]], told: Mapping[str, Any]) -> Bits:
    return Bits(name, str(told.get("split", NONE)), str(told.get("examples", NONE)), values, told)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def section(found: Found, damage: list[Damage]) -> Section:
    """Bits per dimension."""
    known = []
    for one in measured(found):
        if one.values:
            known.append(one)
        else:
            why = "it holds neither a bound nor a likelihood by the flow"
            damage.append(Damage(f"{LIKELIHOOD}/{one.name}.json", why))
    if not known:
        text = "The likelihood of held-out examples has not been measured."
        return Section("likelihood", "Likelihood", [Missing(text, commands.with_run("likelihood", found.run))])
    blocks: list[Block] = [
        Text("Bits per dimension, with the standard error over the examples; lower is better."),
        Table(
            ("", "variational bound", "flow ODE"),
            tuple((f"{one.split}, {one.examples}", *map(one.said, KEYS)) for one in known),
            small={(r, 0): one.name for r, one in enumerate(known)},
            note=TWO if any(len(one.values) == len(KEYS) for one in known) else "",
        ),
    ]
    blocks += pictures(found, LIKELIHOOD, damage, lambda name: name)
    protocols = [Folded(f"Protocol of {one.name}", tuple(rows(one.protocol))) for one in known]
    return Section("likelihood", "Likelihood", [*blocks, *protocols])
