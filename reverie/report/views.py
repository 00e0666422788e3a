"""What a page is made of: tables, pictures, sentences, in the order in which they stand.

A section holds blocks; the template knows how each kind of block is written. All text here is plain: it is
escaped where it is written.

Letters in shapes: none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from reverie.report.charts import Panel, Swatch
from reverie.report.images import Player, Still


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    quiet: bool = False
    """In small print."""


@dataclass(frozen=True)
class Heading:
    """Above a part of a section."""

    kind: ClassVar[str] = "heading"
    text: str
    note: str = ""


@dataclass(frozen=True)
class Missing:
    """What the run does not have yet, and the command that would make it."""

    kind: ClassVar[str] = "missing"
    text: str
    command: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under a head; columns from `left` on hold numbers."""

    kind: ClassVar[str] = "table"
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 1
    """So many columns at the left hold words."""
    words: int = 0
    """So many at the right, too."""
    strong: frozenset[tuple[int, int]] = frozenset()
    """Row and column of cells that stand out."""
    small: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Row and column of cells with a word more, in small print below."""
    note: str = ""
    """What the marks mean."""


@dataclass(frozen=True)
class Facts:
    """Names and values, read line by line."""

    kind: ClassVar[str] = "facts"
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Folded:
    """Names and values that are seen when asked for."""

    kind: ClassVar[str] = "folded"
    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Details:
    """Blocks that are seen when asked for."""

    kind: ClassVar[str] = "details"
    title: str
    note: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Panels:
    """Drawings side by side, with the legend they share, if they do."""

    kind: ClassVar[str] = "panels"
    panels: tuple[Panel, ...]
    legend: tuple[Swatch, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """Pictures below or beside one another, each with a caption."""

    kind: ClassVar[str] = "pictures"
    pictures: tuple[tuple[Still, str], ...]
    beside: bool = False


@dataclass(frozen=True)
class Moving:
    """Pictures with a slider."""

    kind: ClassVar[str] = "moving"
    player: Player


@dataclass(frozen=True)
class Commands:
    """Lines for a shell."""

    kind: ClassVar[str] = "commands"
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What was found, in a word, and why."""

    kind: ClassVar[str] = "verdict"
    word: str
    why: str
    tone: str = "neutral"
    """good, bad or neutral"""


Block = Text | Heading | Missing | Table | Facts | Folded | Details | Panels | Pictures | Moving | Commands | Verdict


@dataclass(frozen=True)
class Section:
    """A part of the page that the contents name."""

    name: str
    """Letters and hyphens: what a link names."""
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """All that is written."""

    title: str
    subtitle: str
    facts: tuple[tuple[str, str, str], ...]
    """The most important ones: name, value, a few words more."""
    sections: tuple[Section, ...]
    damage: tuple[tuple[str, str], ...]
    """Pieces that could not be read: which, and why."""
    made: str
    """By what and when."""
