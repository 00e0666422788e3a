"""What the verbs that judge samples are given: how pictures are read, who shares the work, how far it is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


def together(device: str | None) -> tuple[Team, str]:
    """The processes that share the work, where they were launched as several, and the device of this one."""
    import os

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
