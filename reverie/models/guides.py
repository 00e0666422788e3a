"""Whether a run can guide another one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reverie.config import in_words

if TYPE_CHECKING:
    from reverie.runs import Run

WORDS = {"classifier": "a classifier", "pair": "an image-text pair"}
"""The kinds of run that guide another, in words."""
SETTINGS = {"classifier": "classifier", "pair": "clip"}
"""The kind of the setting `guide` that each is for."""


def purpose(kind: str, path: Path | str) -> str:
    """What a run that guides is, and what to do with it.

    >>> purpose("pair", "runs/p")
    'runs/p is an image-text pair; it guides another run: reverie sample RUN guide.kind=clip guide.run=runs/p'
    """
    return f"{path} is {WORDS[kind]}; it guides another run: {use(kind, path)}"


def use(kind: str, path: Path | str) -> str:
    """The command that samples with a guide."""
    return f"reverie sample RUN guide.kind={SETTINGS[kind]} guide.run={path}"


def check_guides(run: Run, guide: Run) -> None:
    """Refuse a guide that would not understand what a run's denoiser sees.

    Its process may be another one: guidance asks it at the same sigma / alpha.

    Args:
        run: of the denoiser.
        guide: of the classifier or of the image-text pair.

    Raises:
        ValueError: the guide is no such run; or the shape or the encoding of its data, or the classes that both know,
            are others.
    """
    kind = guide.recipe.kind
    if kind not in WORDS:
        raise ValueError(
            f"{guide.path} is a {kind}, which guides nothing; train a guide on the data of {run.path} with "
            f"`reverie train ... kind=classifier`"
        )
    who = f"{guide.path} cannot guide {run.path}"
    if guide.facts.shape != run.facts.shape:
        raise ValueError(f"{who}: it was trained on examples of shape {guide.facts.shape}, not {run.facts.shape}")
    if guide.space != run.space:
        raise ValueError(
            f"{who}: its data were encoded as {in_words(guide.space)}, and the run's as {in_words(run.space)}; train "
            f"it on the same data with the same train.seed and train.validation"
        )
    if kind == "classifier" and run.classes and guide.classes != run.classes:
        theirs, ours = (", ".join(names[:5]) for names in (guide.classes, run.classes))
        raise ValueError(f"{who}: it knows {len(guide.classes)} classes, {theirs}, ..., and the run {ours}, ...")
