"""Where a verb writes what it makes of a run, and under which name, unless it is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.config import Plain


def place_of(run: Path, folder: str, name: str) -> Path:
    """The file `name` in that folder of a run; for a run that comes with the package, in the current folder."""
    from reverie.runs import of_package

    return Path(name) if of_package(run) else run / folder / name


def check_own(run: Path) -> None:
    """Refuse to change a run that comes with the package.

    Raises:
        ValueError: it does.
    """
    from reverie.runs import of_package

    if of_package(run):
        raise ValueError(
            f"{run.name} comes with the package and stays as it is; copy {run} to a folder of your own, such as "
            f"runs/{run.name}, and name that"
        )


def finer(options: Mapping[str, Plain]) -> str:
    """A part of a file's name that tells options apart which the name does not: nothing where all are left out.

    Args:
        options: by name; None, False and empty ones are left out.

    >>> finer({"guidance": None, "settings": []})
    ''
    >>> finer({"guidance": 3.0}) == finer({"guidance": 3.0, "settings": []}) != finer({"guidance": 4.0})
    True
    """
    from reverie.cli.judging import mark_of

    given: dict[str, Plain] = {
        key: value
        for key, value in options.items()
        if value is not None and value is not False and value not in ("", [], {})
    }
    return f"-{mark_of(given)}" if given else ""
