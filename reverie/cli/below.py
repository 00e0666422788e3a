"""What the command line says of stages whose samples condition those of a run: a base, a prior, and theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reverie import config
from reverie.cli.sampling import leads_away, named, settings_of

if TYPE_CHECKING:
    from reverie.config import Plain
    from reverie.request import Request
    from reverie.runs import Run


def with_below(run: Run, words: Sequence[str]) -> list[str]:
    """The words less those for stages, such as base.guidance=3 or base.prior.guidance=2: so these sample from now on.

    Raises:
        ValueError: the run has no such stage, or a word is no setting of sampling, or one that does not fit.
    """
    of: dict[str, tuple[Run, list[str]]] = {}
    for word in words:
        path, stage, setting = _parted(run, word)
        of.setdefault(path, (stage, []))[1].append(setting)
    _, own = of.pop("", (run, []))
    usual = str(run.recipe.sample.candidates)  # which is among the words that a sample is drawn again by
    if any(named([word], "candidates") and word.partition("=")[2] != usual for word in own):
        raise ValueError(
            f"candidates are chosen among by the run that is told one of them, and it is {run.path} itself that draws "
            f"here: name its stage, as prior.candidates or base.prior.candidates, or leave it out"
        )
    run.sampling_below = {path: settings_of(stage, told, None, None, None, None) for path, (stage, told) in of.items()}
    return own


def _parted(run: Run, word: str) -> tuple[str, Run, str]:
    """The path of the stage that a word begins with, '' for the run itself; the stage; and the rest of the word."""
    from reverie.cascade import SAMPLED

    path, rest, stage = "", word, run
    while (name := rest.partition(".")[0]) in SAMPLED and "." in rest:
        if not stage.has(name):
            raise ValueError(f"{word} is of the stage {name} of {SAMPLED[name]}, and {stage.path} has no such stage")
        path, rest, stage = f"{path}.{name}" if path else name, rest.partition(".")[2], stage.stage(name)
    return path, stage, rest


def told_below(run: Run) -> dict[str, Plain]:
    """How stages sample, for what pictures carry, by their paths; nothing where there are none."""
    from reverie.cascade import sampled

    return {path: config.to_data(sampling) for path, (_, sampling) in sampled(run, run.sampling_below).items()}


def unled(run: Run, request: Request) -> str:
    """Which stages a negative text leads nowhere, though they read texts, in a sentence; else empty."""
    from reverie.cascade import sampled

    if request.negative is None:
        return ""
    stages = sampled(run, run.sampling_below).items()
    idle = [path for path, stage in stages if stage[0].vocabulary.text is not None and not leads_away(*stage)]
    if not idle:
        return ""
    several = f"stages {' and '.join(idle)}" if len(idle) > 1 else f"stage {idle[0]}"
    return f"the negative text does nothing at the {several}, without guidance; give {idle[0]}.guidance=3, say"


def above_alone(run: Run, precision: str, compiled: bool = False) -> str:
    """That a precision, or compiling, is not for the stages, in a sentence; empty where neither is asked for."""
    from reverie.cascade import sampled

    asked = [f"--precision {precision}"] * (precision != "no") + ["--compile"] * compiled
    stages = list(sampled(run, {})) if asked else []
    if not stages:
        return ""
    several = f"stages {' and '.join(stages)} sample" if len(stages) > 1 else f"stage {stages[0]} samples"
    return f"{' and '.join(asked)}: for the last model alone; its {several} in float32, not compiled"
