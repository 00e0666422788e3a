"""What a user is told: notes on the error stream, entries of results on the other."""

from __future__ import annotations

import shutil
import sys
import textwrap

MARGIN = 13
"""Columns of the names of entries."""


def note(text: str) -> None:
    """One line."""
    print(f"note: {text}", file=sys.stderr)


def width() -> int:
    """Columns of the terminal; 100 where there is none."""
    return shutil.get_terminal_size((100, 24)).columns


def entry(name: str, text: str) -> str:
    """A name and what is said of it, in lines of the terminal's width that begin below one another."""
    return textwrap.fill(
        f"{name:{MARGIN}}{text}", width(), subsequent_indent=MARGIN * " ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
