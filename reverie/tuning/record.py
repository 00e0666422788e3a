"""tuned.json of a run folder: the grids fitted to its model, and how far each is from the exact solution.

One entry for each model (by the hash of its weights), sampler with its settings, guidance, clipping and threshold;
in it, one for each number of evaluations. An entry of weights that are the model's no longer stays: it
holds again when they come back, as after `reverie ema`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reverie import config
from reverie.config import Plain
from reverie.files import write_json
from reverie.fitting import Error
from reverie.grids import checked_times
from reverie.guidance import Guide
from reverie.samplers import Sampler
from reverie.samplers.weighed import check_rows
from reverie.schedules import Schedule

if TYPE_CHECKING:
    from reverie.runs import Run

FORMAT = 1
FILE = "tuned.json"
ASIDE = f"{FILE}.damaged"
"""Where a damaged file is moved before another is written."""


class Damaged(ValueError):
    """A file that does not hold what was written."""


@dataclass(frozen=True)
class Count:
    """What was fitted for one number of evaluations.

    Raises:
        ValueError: times that cannot be sampled along, do not end at 0, or are not those of so many steps; weights
            that are not theirs.
    """

    evaluations: int
    steps: int
    times: tuple[float, ...]
    errors: Mapping[str, Error] = field(default_factory=dict)
    """Distance from the reference on examples that were not fitted to: "tuned" and, beside it, other grids."""
    about: Mapping[str, Plain] = field(default_factory=dict)
    """How it was made: versions, date, seed, examples, reference, device."""
    weights: tuple[tuple[float, ...], ...] = ()
    """Those of `reverie.samplers.Weighed` along these times; none where the sampler's own are as good."""

    def __post_init__(self) -> None:
        times = checked_times(torch.tensor(self.times, dtype=torch.float64))
        if self.weights and len(self.weights) != self.steps:
            raise ValueError(f"{self.steps} steps need as many rows of weights, or none; given {len(self.weights)}")
        check_rows(self.weights)
        if len(times) != self.steps + 1 or float(times[-1]) != 0:
            given = f"{len(times)}, the last {float(times[-1]):g}"
            raise ValueError(f"{self.steps} steps need {self.steps + 1} times, the last 0; given {given}")


@dataclass(frozen=True)
class Tuning:
    """The grids for one model, sampler, guidance, clipping and threshold."""

    model: str
    """SHA-256 of the weights."""
    sampler: Sampler
    guidance: float
    clip: bool
    schedule: Schedule
    counts: tuple[Count, ...] = ()
    guide: Guide | None = None
    """As `Sampling.guide`; None also where the scale guides nothing."""
    threshold: float = 0.0
    """As `Sampling.threshold`."""

    def same(self, other: Tuning) -> bool:
        """Whether both are of the same model and settings."""
        return replace(self, counts=()) == replace(other, counts=())

    def merged(self, counts: Iterable[Count]) -> Tuning:
        """With these counts, in place of those of as many evaluations, in order."""
        by_evaluations = {c.evaluations: c for c in (*self.counts, *counts)}
        return replace(self, counts=tuple(by_evaluations[n] for n in sorted(by_evaluations)))


def model_of(run: Run) -> str:
    """The SHA-256 of the run's averaged weights, of those that it is used with.

    Raises:
        ValueError: the file is missing, or its beginning is damaged.
    """
    from reverie.digests import digest
    from reverie.tensor_files import read_metadata, read_tensors

    path = run.file
    return read_metadata(path).get("sha256") or digest(read_tensors(path))


# ---------------------------------------------------------------------------------------- the file


def read(folder: Path) -> tuple[Tuning, ...]:
    """What is tuned in a run folder, the newest last; nothing if there is no file.

    Raises:
        Damaged: the file is no longer what was written.
        ValueError: a newer version wrote it.
    """
    path = folder / FILE
    if not path.is_file():
        return ()
    try:
        data = config.read_file(path)
        found = data.get("format")
        if not isinstance(found, int):
            raise ValueError("it has no format number")
        if found <= FORMAT:
            return tuple(_tuning(d, f"tunings[{i}]") for i, d in enumerate(_list(data.get("tunings"), "tunings")))
    except (ValueError, OSError) as error:
        told = str(error).removeprefix(f"{path} ").removeprefix("is ")
        raise Damaged(f"{path} is damaged ({told})") from None
    raise ValueError(f"{path} has format {found}, written by a newer Reverie; upgrade: pip install -U reverie")


def write(folder: Path, tunings: Sequence[Tuning]) -> Path:
    """Write them, whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / FILE
    write_json(path, {"format": FORMAT, "tunings": [_plain(t) for t in tunings]})
    return path


def _plain(tuning: Tuning) -> Plain:
    """What is written of one: a guide and a threshold only where there are any, which older versions do not know."""
    data = _table(config.to_data(tuning), FILE)
    left_out = {"guide": None, "threshold": 0.0}
    return {key: value for key, value in data.items() if key not in left_out or value != left_out[key]}


def set_aside(folder: Path) -> Path:
    """Move the file to `ASIDE`, in place of what was there, and return where it is now.

    Raises:
        OSError: the folder cannot be written.
    """
    return (folder / FILE).replace(folder / ASIDE)


def _tuning(data: Plain, where: str) -> Tuning:
    fields = _table(data, where)
    counts = [_count(d, f"{where}.counts[{i}]") for i, d in enumerate(_list(fields.pop("counts", []), where))]
    tuning = config.from_data(Tuning, fields, where)
    assert isinstance(tuning, Tuning)
    return tuning.merged(counts)


def _count(data: Plain, where: str) -> Count:
    fields = _table(data, where)
    errors, about = (_table(fields.pop(name, {}), f"{where}.{name}") for name in ("errors", "about"))
    count = config.from_data(Count, fields, where)
    assert isinstance(count, Count)
    return replace(count, errors={k: config.from_data(Error, v, f"{where}.errors.{k}") for k, v in errors.items()},
                   about=about)  # fmt: skip


def _table(data: Plain, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be a table; given {data!r}")
    return dict(data)


def _list(data: Plain, where: str) -> list[Any]:
    if not isinstance(data, list):
        raise ValueError(f"{where} must be a list; given {data!r}")
    return data
