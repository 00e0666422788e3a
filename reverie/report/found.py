"""All that a run folder holds for a report, read so that a damaged piece is named and costs no other.

Letters in shapes: none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from reverie import config
from reverie.audit import findings
from reverie.audit.findings import Audit
from reverie.evaluation import numbers
from reverie.evaluation.numbers import Evaluation
from reverie.report import history
from reverie.report.history import Damage, History
from reverie.runs import MODEL, SAMPLES, Run
from reverie.tensor_files import read_metadata
from reverie.training.needs import Needs
from reverie.tuning import record
from reverie.tuning.record import Tuning

LIKELIHOOD, CURVES = "likelihood", "curves"
"""Folders of a run."""
PICTURED = (numbers.FOLDER, LIKELIHOOD, CURVES, findings.FOLDER)
LARGEST = 4_000_000
"""Bytes of a JSON file that is read; what is larger is no summary."""

Read = TypeVar("Read")


@dataclass(frozen=True)
class Found:
    """A run and what was made of it.

    Attributes:
        run: itself.
        history: of its training.
        evaluations: by the name of their file, the newest last.
        likelihoods: what their files say, by name.
        curves: what their files say, by name, the newest last.
        audits: by the name of their file, the newest last.
        tunings: of the present weights.
        pictures: PNG files of the folders `PICTURED`, by folder.
        sheets: sample sheets by step.
        damage: pieces that could not be read.
    """

    run: Run
    history: History
    evaluations: Mapping[str, Evaluation]
    likelihoods: Mapping[str, Mapping[str, Any]]
    curves: Mapping[str, Mapping[str, Any]]
    audits: Mapping[str, Audit]
    tunings: tuple[Tuning, ...]
    pictures: Mapping[str, tuple[Path, ...]]
    sheets: Mapping[int, Path]
    damage: tuple[Damage, ...]

    @property
    def name(self) -> str:
        """The folder's."""
        return self.run.path.resolve().name

    @cached_property
    def parameters(self) -> int:
        """Of the network."""
        import torch

        return Needs(self.run.recipe, self.run.facts, torch.device("cpu")).network.parameters

    @property
    def saved(self) -> bool:
        """Whether there are weights."""
        return (self.run.path / MODEL).is_file()

    @property
    def step(self) -> int:
        """Steps trained, as the weights say, else as the measurements do."""
        try:
            told = read_metadata(self.run.path / MODEL).get("step", "")
        except ValueError:
            told = ""
        return int(told) if told.isdecimal() else self.history.last_step


def gather(run: Run) -> Found:
    """What the folder of a run holds."""
    told = history.read(run.path)
    damage = [*told.damage]
    folder = run.path
    return Found(
        run,
        told,
        _dated(_all(folder / numbers.FOLDER, damage, _evaluation)),
        _all(folder / LIKELIHOOD, damage, _json),
        _dated(_all(folder / CURVES, damage, _json)),
        _dated(_all(folder / findings.FOLDER, damage, _audit)),
        _tunings(run, damage),
        {name: tuple(sorted((folder / name).glob("*.png"))) for name in PICTURED},
        _sheets(folder / SAMPLES),
        tuple(damage),
    )


def _guarded(where: str, damage: list[Damage], read: Callable[[Path], Read | None], path: Path) -> Read | None:
    """What is read from a path, or None and a word of the damage."""
    try:
        return read(path)
    except (ValueError, OSError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        text = " ".join(str(error).split()).replace(f"{path} ", "it ", 1)
        damage.append(Damage(where, text or type(error).__name__))
        return None


def _all(folder: Path, damage: list[Damage], read: Callable[[Path], Read | None]) -> dict[str, Read]:
    """What the JSON files of a folder hold, by their names; those that hold something else are passed over."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        one = _guarded(f"{folder.name}/{path.name}", damage, read, path)
        if one is not None:
            found[path.stem] = one
    return found


def _dated(found: Mapping[str, Read]) -> dict[str, Read]:
    """In the order of their dates."""

    def key(item: tuple[str, Any]) -> tuple[str, str]:
        about = item[1].get("about") if isinstance(item[1], dict) else item[1].about
        return str(about.get("date", "")) if isinstance(about, Mapping) else "", item[0]

    return dict(sorted(found.items(), key=key))


def _evaluation(path: Path) -> Evaluation | None:
    """An evaluation whose numbers can be written; None where the file holds something else.

    Raises:
        ValueError: it is damaged.
    """
    plain = _json(path)
    if "numbers" not in plain and "format" in plain:
        return None
    read = numbers.read(path)
    wrong = [n.name for n in read.numbers if not history.finite(n.value)]
    if wrong:
        raise ValueError(f"{wrong[0]} is no finite number")
    return read


def _audit(path: Path) -> Audit:
    """An audit.

    Raises:
        ValueError: it is damaged.
    """
    _json(path)
    return findings.read(path)


def _json(path: Path) -> dict[str, Any]:
    """A file's data.

    Raises:
        ValueError: it is damaged, or too large to be a summary.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has {path.stat().st_size:,} bytes, which is too much for a summary")
    plain = config.read_file(path)
    if not isinstance(plain.get("points", []), list):
        raise ValueError("its points are no list")
    return plain


def _tunings(run: Run, damage: list[Damage]) -> tuple[Tuning, ...]:
    """Those of the present weights."""

    def read(path: Path) -> tuple[Tuning, ...]:
        tunings = record.read(path.parent)
        model = record.model_of(run) if tunings else ""
        return tuple(t for t in tunings if t.model == model and t.counts)

    return _guarded(record.FILE, damage, read, run.path / record.FILE) or ()


def _sheets(folder: Path) -> dict[int, Path]:
    found = {int(path.stem): path for path in folder.glob("*.png") if re.fullmatch(r"\d{8,}", path.stem)}
    return dict(sorted(found.items()))
