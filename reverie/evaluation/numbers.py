"""What comes of an evaluation: numbers, and the protocol without which they mean nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie import config
from reverie.config import Plain

FORMAT = 1
FOLDER = "evaluation"
"""Of a run: one JSON file an evaluation."""
SIDES = ("samples", "floor")
"""The parts of a protocol that change no comparison: what was judged, and what perfect samples are shown by."""


@dataclass(frozen=True)
class Number:
    """One number, of all samples, with its spread."""

    name: str
    """The kind of a metric, or `bits_per_dim`, ...; one in the features of an extractor has it."""
    title: str
    value: float
    extractor: str = ""
    """The extractor in whose features it was measured, by its kind, with more where an evaluation has several of that
    kind; empty where there is none."""
    better: str = "lower"
    """lower, higher or neither"""
    unit: str = ""
    """% for a share in [0, 1], which is written as a percentage."""
    error: float | None = None
    """Standard error of `value`: that over `sets`, each a part of the samples."""
    sets: tuple[float, ...] = ()
    """The same number of each of several disjoint parts of the samples."""
    floor: float | None = None
    """The same number of real examples that are not in the reference: what perfect samples would get."""
    floor_n: int | None = None
    """How many those were."""
    matched: float | None = None
    """The same number of as many samples, beside the real examples that the floor is beside: what can be compared with
    it. None where it is `value` itself."""
    note: str = ""
    """What a reader must know, such as the bias."""


@dataclass(frozen=True)
class LeftOut:
    """A number that was not measured, and why."""

    name: str
    why: str
    extractor: str = ""


@dataclass(frozen=True)
class Evaluation:
    """Numbers, and how they were measured."""

    protocol: Mapping[str, Plain]
    """Plain data with the parts `samples`, `reference`, `floor`, `extractors`, `sets`, `versions`."""
    numbers: tuple[Number, ...]
    left_out: tuple[LeftOut, ...] = ()
    about: Mapping[str, Plain] = field(default_factory=dict)
    """What changes no number: date, seconds, device, processes."""

    @property
    def id(self) -> str:
        """A hash of how it was judged, whatever was judged: only numbers of the same id can be compared."""
        return protocol_id(self.protocol)

    @property
    def notes(self) -> tuple[tuple[str, str], ...]:
        """Titles and notes, each once where it holds in the features of several extractors."""
        return tuple(dict.fromkeys((number.title, number.note) for number in self.numbers if number.note))

    def number(self, name: str, extractor: str | None = None) -> Number:
        """The number of that name.

        Raises:
            KeyError: there is none.
        """
        for found in self.numbers:
            if found.name == name and extractor in (None, found.extractor):
                return found
        raise KeyError(name if extractor is None else f"{name} by {extractor}")

    def to_data(self) -> dict[str, Plain]:
        """Plain data, as it goes into a file."""
        return {"format": FORMAT, "id": self.id, **config.to_data(self)}


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The same names, but for those that come again, which are numbered.

    >>> distinct(["pixels", "values", "pixels"])
    ('pixels', 'values', 'pixels 2')
    """
    return tuple(f"{name} {again + 1}" if (again := names[:i].count(name)) else name for i, name in enumerate(names))


def protocol_id(protocol: Mapping[str, Plain]) -> str:
    """A hash of a protocol less what was judged and the floor, and less where a file lies whose digest is told."""
    kept = {key: _placeless(value) for key, value in protocol.items() if key not in SIDES}
    kept["n"] = protocol.get("samples", {}).get("n")
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]


def _placeless(value: Plain) -> Plain:
    if isinstance(value, list):
        return [_placeless(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: _placeless(v) for k, v in value.items() if not (value.get("digest") and k in ("source", "path"))}


def read(path: Path) -> Evaluation:
    """An evaluation from its file.

    Raises:
        ValueError: the file is damaged, or a newer version wrote it.
    """
    data: dict[str, Any] = dict(config.read_file(path))
    found = data.pop("format", None)
    if not isinstance(found, int):
        raise ValueError(f"{path} is damaged: it has no format number")
    if found > FORMAT:
        raise ValueError(f"{path} has format {found}, written by a newer Reverie; upgrade: pip install -U reverie")
    try:
        plain = {key: dict(data.get(key) or {}) for key in ("protocol", "about")}
        numbers = tuple(config.from_data(Number, d, "numbers") for d in data.get("numbers") or ())
        left_out = tuple(config.from_data(LeftOut, d, "left_out") for d in data.get("left_out") or ())
        for key in ("samples", "reference"):
            told = plain["protocol"].get(key, {})
            if not isinstance(told, dict) or type(told.get("n", 0)) is not int:
                raise ValueError(f"its {key} are no table with a whole number n")
        evaluation = Evaluation(plain["protocol"], numbers, left_out, plain["about"])
        protocol_id(evaluation.protocol)  # what reads it asks for that later
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    return evaluation
