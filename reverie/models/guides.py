"""What runs that draw no samples are for: to guide another one, or to make its latents."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reverie.runs import Run

WORDS = {"classifier": "a classifier", "pair": "an image-text pair", "autoencoder": "an autoencoder"}
"""The kinds of run that draw no samples, in words."""
SETTINGS = {"classifier": "classifier", "pair": "clip"}
"""The kind of the setting `guide` that each is for."""
ASKED = {"classifier": ("--label", "0", 1.0), "pair": ("--prompt", "red heart", 15.0)}
"""What a guided run is asked for, with an example, and a scale to begin with: 1 is Bayes' rule for a classifier, and
the inverse temperature for a pair."""


def purpose(kind: str, path: Path | str) -> str:
    """What a run that guides is, and what to do with it."""
    does = "guides another run" if kind in SETTINGS else "makes the latents that another run learns"
    return f"{path} is {WORDS[kind]}; it {does}: {use(kind, path)}"


def use(kind: str, path: Path | str, asked: str = "", scale: float | None = None) -> str:
    """The command that samples with a guide, or trains on the latents of an autoencoder.

    >>> use("pair", "runs/p")
    "reverie sample RUN --prompt 'red heart' --guidance 15 guide.kind=clip guide.run=runs/p"

    Args:
        kind: of the run.
        path: of it.
        asked: a class or a text; an example unless given.
        scale: of guidance; one to begin with unless given.
    """
    if kind not in SETTINGS:
        return f"reverie train DATA space.kind=latent space.autoencoder={shlex.quote(str(path))}"
    option, example, first = ASKED[kind]
    told = f"{option} {shlex.quote(asked or example)} --guidance {first if scale is None else scale:.3g}"
    return f"reverie sample RUN {told} guide.kind={SETTINGS[kind]} guide.run={shlex.quote(str(path))}"


def use_of(run: Run) -> str:
    """The same for a run, with a caption of its own data, and the scale that it has learned where it has saved one."""
    captions = [prompt.text for prompt in run.facts.prompts if prompt.text]
    asked = min(captions, key=len) if captions and run.recipe.kind == "pair" else ""
    return use(run.recipe.kind, run.path, asked, learned_scale(run))


def learned_scale(run: Run) -> float | None:
    """What an image-text pair has learned to multiply its dot product by, the inverse of a temperature.

    None for another run, and where its weights are missing or damaged.
    """
    if run.recipe.kind != "pair":
        return None
    try:
        return float(run.pair.scale)
    except ValueError:
        return None


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
    if kind not in SETTINGS:
        raise ValueError(
            f"{guide.path} is a {kind}, which guides nothing; train a guide on the data of {run.path} with "
            f"`reverie train ... kind=classifier`"
        )
    who = f"{guide.path} cannot guide {run.path}"
    if guide.facts.shape != run.facts.shape:
        raise ValueError(f"{who}: it was trained on examples of shape {guide.facts.shape}, not {run.facts.shape}")
    if guide.encoding != run.encoding:
        raise ValueError(
            f"{who}: its data were encoded as {guide.encoding}, and the run's as {run.encoding}; "
            f"train it on the same data with the same train.seed and train.validation"
        )
    if kind == "classifier" and run.classes and guide.classes != run.classes:
        theirs, ours = (", ".join(names[:5]) for names in (guide.classes, run.classes))
        raise ValueError(f"{who}: it knows {len(guide.classes)} classes, {theirs}, ..., and the run {ours}, ...")
