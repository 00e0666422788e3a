"""What comes of an audit: findings, each with its protocol, and a verdict.

Letters in shapes: W pairs, ... one example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reverie import config
from reverie.config import Plain

FORMAT = 1
FOLDER = "audit"
"""Of a run: one JSON file an audit, and its pictures."""

Word = Literal["memorises", "no sign of memorising", "cannot tell"]
MEMORISES: Word = "memorises"
NO_SIGN: Word = "no sign of memorising"
CANNOT_TELL: Word = "cannot tell"


@dataclass(frozen=True)
class Finding:
    """One number, what an honest model would have, and how surprising the difference is."""

    name: str
    """near_copies, closer, membership, singling_out, ..."""
    title: str
    value: float
    n: int
    """Of how many samples or examples."""
    space: str = ""
    """In whose features: the kind of an extractor, or empty."""
    expected: float | None = None
    """What an honest model would have."""
    low: float | None = None
    high: float | None = None
    """Ends of the interval of 95 %."""
    p: float | None = None
    """Probability that an honest model reaches the value, `tolerance` beyond what is expected granted."""
    adjusted: float | None = None
    """p with regard to the other tests (Holm, 1979); None where the finding does not decide."""
    tolerance: float = 0.0
    unit: str = ""
    """% for a share in [0, 1], which is written as a percentage."""
    note: str = ""
    """What a reader must know."""


@dataclass(frozen=True)
class Copy:
    """A sample that is nearer to a training example than nearly all held-out ones are."""

    sample: int
    """Its number."""
    training: int
    """The row of its nearest training example among those trained on."""
    distance: float
    """Root mean square difference, in the units of the space."""
    ratio: float
    """That over the median distance to the next nearest examples."""
    space: str
    copies: int = 1
    """How often the training example occurs, to the last bit."""
    twins: int = 0
    """How many other training examples are as near to it as a near-copy is, `neighbours` at the most."""


@dataclass(frozen=True)
class Level:
    """Losses at one noise level, of examples trained on and others."""

    t: float
    """In the middle of the level."""
    train: float
    held_out: float
    gap: float
    """held_out - train."""
    error: float
    """Standard error of the gap."""
    auc: float
    """Probability that an example trained on has the lower loss."""
    low: float
    high: float
    """Ends of the interval of 95 % of the area."""
    p: float
    """Of an area of one half, adjusted for the number of levels (Holm, 1979)."""


@dataclass(frozen=True)
class Duplicates:
    """How often training examples occur."""

    identical: int
    """Training examples that have the same bytes as an earlier one."""
    repeated: float
    """Share of the distinct training examples that occur more than once."""
    twins: float
    """Share of training examples that have another one as near as a near-copy is, of those looked at."""
    looked_at: int
    copied: int
    """Near-copies, of which"""
    explained: int
    """are of a training example that occurs more than once or has such a twin."""


@dataclass(frozen=True)
class Histogram:
    """How near samples are to their nearest training example, beside held-out examples."""

    space: str
    edges: tuple[float, ...]
    samples: tuple[int, ...]
    held_out: tuple[int, ...]
    """Of training examples to the others where nothing was held out."""
    threshold: float
    """Below it are near-copies."""


@dataclass(frozen=True)
class Verdict:
    """What the findings say together."""

    word: Word
    why: str


@dataclass(frozen=True)
class LeftOut:
    """A test that was not made, and why."""

    name: str
    why: str


@dataclass(frozen=True, eq=False)
class Audit:
    """Whether a model memorises its training examples, and how that was found out."""

    verdict: Verdict
    protocol: Mapping[str, Plain]
    findings: tuple[Finding, ...]
    copies: tuple[Copy, ...] = ()
    """Nearest first."""
    levels: tuple[Level, ...] = ()
    duplicates: Duplicates | None = None
    histograms: tuple[Histogram, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    about: Mapping[str, Plain] = field(default_factory=dict)
    """What changes no number: date, seconds, device, processes."""
    pairs: np.ndarray | None = None
    """(W, 2, ...), the samples nearest to a training example, and that example; not kept in the file."""

    @property
    def memorises(self) -> bool:
        """Whether that is the verdict."""
        return self.verdict.word == MEMORISES

    def finding(self, name: str, space: str | None = None) -> Finding:
        """The finding of that name.

        Raises:
            KeyError: there is none.
        """
        for found in self.findings:
            if found.name == name and space in (None, found.space):
                return found
        raise KeyError(name)

    def to_data(self) -> dict[str, Plain]:
        """Plain data, as it goes into a file."""
        parts = {f.name: config.to_data(getattr(self, f.name)) for f in fields(self) if f.name != "pairs"}
        return {"format": FORMAT, **parts}


_LISTS: dict[str, type] = {
    "findings": Finding, "copies": Copy, "levels": Level, "histograms": Histogram, "left_out": LeftOut,
}  # fmt: skip


def read(path: Path | str) -> Audit:
    """An audit from its file.

    Raises:
        ValueError: the file is damaged, or a newer version wrote it.
    """
    data: dict[str, Any] = dict(config.read_file(Path(path)))
    found = data.get("format")
    if not isinstance(found, int):
        raise ValueError(f"{path} is damaged: it has no format number")
    if found > FORMAT:
        raise ValueError(f"{path} has format {found}, written by a newer Reverie; upgrade: pip install -U reverie")
    try:
        parts = {key: tuple(config.from_data(cls, d, key) for d in data.get(key) or ()) for key, cls in _LISTS.items()}
        verdict = config.from_data(Verdict, data.get("verdict"), "verdict")
        twice = data.get("duplicates")
        duplicates = None if twice is None else config.from_data(Duplicates, twice, "duplicates")
        plain = {key: dict(data.get(key) or {}) for key in ("protocol", "about")}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    findings, copies, levels, histograms, left_out = (parts[key] for key in _LISTS)
    return Audit(verdict, plain["protocol"], findings, copies, levels, duplicates, histograms, left_out, plain["about"])
