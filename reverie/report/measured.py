"""What sections of measurements share: values to the digits that they have, the pictures of a folder; and tuning.

Letters in shapes: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from reverie.config import registered
from reverie.evaluation.extractors import Extractor
from reverie.evaluation.numbers import Evaluation, Number
from reverie.report import commands
from reverie.report.found import Found
from reverie.report.history import Damage, finite
from reverie.report.images import Still, opened, stills
from reverie.report.views import Block, Folded, Heading, Missing, Pictures, Section, Table, Text
from reverie.report.words import ARROWS, NONE, said, with_error

ROOM = 280_000
"""Bytes of a picture that others drew."""
MOST = 4
"""Such pictures a section; the newest."""
LIKELIHOOD_NUMBERS = "bits_per_dim"
"""How the names of numbers begin that are of the likelihood, not of samples."""
PRIMARY = ("kid", "fid_infinity")
"""Numbers that sum an evaluation up, in the features of a learned network; the first that there is."""


def ranked(evaluations: Mapping[str, Evaluation]) -> list[tuple[str, Evaluation]]:
    """Name and evaluation: the main one first, which has the most samples and is the newest of these; then the newest.

    >>> ranked({})
    []
    """
    order = list(evaluations.items())[::-1]
    if not order:
        return []
    main = max(order, key=lambda item: samples_of(item[1]) or 0)
    return [main, *(item for item in order if item is not main)]


def samples_of(one: Evaluation) -> int | None:
    """How many samples it is of, where it says so."""
    n = (one.protocol.get("samples") or {}).get("n")
    return n if type(n) is int else None


def of_samples(one: Evaluation) -> tuple[Number, ...]:
    """Its numbers about samples, the primary one first."""
    found = [n for n in one.numbers if not n.name.startswith(LIKELIHOOD_NUMBERS)]
    first = next((n for name in PRIMARY for n in found if n.name == name and _learned(n)), None)
    return tuple(found) if first is None else (first, *(n for n in found if n is not first))


def _learned(one: Number) -> bool:
    """Whether its features are a network's."""
    kind = registered(Extractor).get(one.extractor.partition(" ")[0])
    return getattr(kind, "learned", False) is True


def tile(one: Evaluation, number: Number) -> tuple[str, str, str]:
    """Name, value and a few words more of a number of an evaluation."""
    n = samples_of(one)
    better = f"{number.better} is better" if number.better in ARROWS else ""
    more = ", ".join(filter(None, (better, "" if n is None else f"{n:,} samples")))
    return measured_in(number), value_of(number, number.value, number.error), more


def drawn(one: Evaluation) -> str:
    """How the samples came about, in words: 1,500 samples, adams, 20 steps, guidance 1.5."""
    told = one.protocol.get("samples") or {}
    n, sampler, weights = samples_of(one), told.get("sampler"), str(told.get("weights") or "")
    words = ["samples" if n is None else f"{n:,} samples"]
    if isinstance(sampler, Mapping):
        words.append(str(sampler.get("kind", "")))
    if finite(told.get("steps")):
        words.append(f"{told['steps']} steps")
    if finite(told.get("guidance")) and told["guidance"] != 1:
        words.append(f"guidance {told['guidance']:g}")
    if ", the best by" in weights:
        words.append("best weights")
    return ", ".join(word for word in words if word)


def with_arrow(text: str, better: str) -> str:
    """A name with an arrow that says which values are better."""
    return f"{text} {ARROWS[better]}" if better in ARROWS else text


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


def pictures(
    found: Found, folder: str, damage: list[Damage], caption: Callable[[str], str], of: str | None = None
) -> Iterator[Block]:
    """The newest pictures of a folder.

    Args:
        found: the run.
        folder: of it.
        damage: gets those that cannot be read.
        caption: of a picture, by the name of its file.
        of: what these names begin with.
    """
    made: list[tuple[Still, str]] = []
    known = [path for path in found.pictures.get(folder, ()) if of is None or path.stem.startswith(of)]
    for path in sorted(known, key=_age)[-MOST:]:
        try:
            picture = opened(path)
        except ValueError as error:
            damage.append(Damage(f"{folder}/{path.name}", str(error)))
            continue
        made.append((stills([picture], [caption(path.stem)], ROOM)[0], caption(path.stem)))
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
