"""What a user should know of what goes on, on the error stream: results alone are on the other."""

from __future__ import annotations

import sys


def note(text: str) -> None:
    """One line."""
    print(f"note: {text}", file=sys.stderr)
