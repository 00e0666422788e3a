"""Putting what was fitted beside what was fitted before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from reverie.runs import Run
from reverie.tuning.choice import tuned
from reverie.tuning.record import Damaged, Tuning, set_aside, write


def kept(run: Run, made: Tuning, notice: Callable[[str], object]) -> Tuning:
    """Write it; what was fitted before for the same model and settings stays, but for counts that are fitted again.

    A damaged file is set aside, and what it holds is kept there; `notice` is told.

    Raises:
        ValueError: a newer version wrote the file.
        OSError: the folder cannot be written.
    """
    before = _before(run, notice)  # read only now: another fit may have written meanwhile
    whole = replace(made, counts=())
    for tuning in (*(t for t in before if t.same(made)), made):
        whole = whole.merged(tuning.counts)
    write(run.path, [*(t for t in before if not t.same(made)), whole])
    return whole


def _before(run: Run, notice: Callable[[str], object]) -> tuple[Tuning, ...]:
    try:
        return tuned(run)
    except Damaged as error:
        aside = set_aside(run.path)
        notice(f"{error}; it is kept as {aside.name}, and holds all that was tuned before")
        return ()
