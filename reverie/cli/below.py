"""What the command line says of the stage `base` of a cascade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reverie import config
from reverie.cli.sampling import settings_of

if TYPE_CHECKING:
    from reverie.config import Plain
    from reverie.request import Request
    from reverie.runs import Run

BASE = "base"
"""The stage, and what its words begin with."""


def with_base(run: Run, words: Sequence[str]) -> list[str]:
    """The words less those for the base, such as base.guidance=3, which the run samples with from now on.

    Raises:
        ValueError: the run has no base, or a word is no setting of sampling, or one that does not fit.
    """
    prefix = f"{BASE}."
    below = [word.removeprefix(prefix) for word in words if word.startswith(prefix)]
    if not below:
        return list(words)
    if BASE not in {each.name for each in run.facts.stages}:
        raise ValueError(f"{prefix}{below[0]} is of the stage {BASE} of a cascade, and {run.path} has no such stage")
    run.base_sampling = settings_of(run.stage(BASE), below, None, None, None, None)
    return [word for word in words if not word.startswith(prefix)]


def told_below(request: Request) -> dict[str, Plain]:
    """How the base of a cascade samples, for what pictures carry; nothing where there is none."""
    from reverie.cascade import Base

    found = [each.sampling for each in request.below if isinstance(each, Base)]
    return {BASE: config.to_data(found[0])} if found else {}
