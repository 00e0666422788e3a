"""What the verbs that judge samples are given: how pictures are read, who shares the work, how far it is."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.config import Plain
    from reverie.evaluation.evaluate import Told
    from reverie.evaluation.reading import Picture
    from reverie.evaluation.team import Team


def picture_of(size: str | None, resize: str, channels: int | None) -> Picture:
    """How folders of images are read, as --size, --resize and --channels say it.

    Raises:
        ValueError: a word or number that means nothing.
    """
    from typing import cast, get_args

    from reverie.data.decoding import Channels, Resize
    from reverie.evaluation.reading import Picture

    for value, known, name in (
        (resize, get_args(Resize), "resize"),
        (channels, (None, *get_args(Channels)), "channels"),
    ):
        if value not in known:
            listed = ", ".join(str(k) for k in known if k is not None)
            raise ValueError(f"--{name} is one of {listed}; given {value}")
    try:
        sides = [int(word) for word in (size or "").split(",") if word]
    except ValueError:
        sides = [0, 0, 0]
    if len(sides) > 2 or any(side < 1 for side in sides):
        raise ValueError(f"--size is a number of pixels, or two, height and width, as 48,64; given {size!r}")
    shape = None if not sides else sides[0] if len(sides) == 1 else (sides[0], sides[1])
    return Picture(shape, cast(Resize, resize), cast(Channels | None, channels))


def mark_of(told: Plain) -> str:
    """Eight digits for a file's name, the same for the same: results that differ in any setting have files each."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before there is anything to write.

    Raises:
        ValueError: it is a folder, or lies where nothing may be written.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the file to write")
    above = next(part for part in path.absolute().parents if part.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise ValueError(f"{path} cannot be written, because {above} is no folder that may be written to")


def together(device: str | None) -> tuple[Team, str]:
    """The processes that share the work, where they were launched as several, and the device of this one."""
    from reverie.devices import usable
    from reverie.evaluation.team import Team

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team(), usable(device)
    from accelerate import PartialState

    from reverie.training.accelerator import on_cpu

    state = PartialState(cpu=device == "cpu" or on_cpu())
    return Team.here(), str(state.device)


@contextmanager
def watched(team: Team) -> Iterator[Told]:
    """Progress on a terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=30), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, transient=True, disable=not (team.main and sys.stdout.isatty())) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, completed=share, description=what)
