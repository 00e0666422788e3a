"""What comes of an evaluation: numbers, and the protocol without which they mean nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reverie import config
from reverie.config import Plain

FORMAT = 1
FOLDER = "evaluation"
"""Of a run: one JSON file an evaluation."""
SIDES = ("samples",)
"""The parts of a protocol that tell what was judged, not how."""


@dataclass(frozen=True)
class Number:
    """One number, of all samples, with its spread."""

    name: str
    """The kind of a metric, or `bits_per_dim`, ..."""
    title: str
    value: float
    extractor: str = ""
    """The kind of the extractor in whose features it was measured; empty where there is none."""
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


def protocol_id(protocol: Mapping[str, Plain]) -> str:
    """A hash of a protocol less what was judged, and less where a file lies whose digest is told."""
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
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    return Evaluation(plain["protocol"], numbers, left_out, plain["about"])
