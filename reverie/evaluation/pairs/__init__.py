"""Pairs of an image and a text network that judge captions, a file each."""

from pathlib import Path

from reverie.config import registered
from reverie.evaluation.extractors.weights import is_name
from reverie.evaluation.pairs.base import OpenedPair, Pair
from reverie.evaluation.pairs.clip import Clip
from reverie.evaluation.pairs.scores import scores
from reverie.evaluation.pairs.trained import Trained

__all__ = ["Clip", "OpenedPair", "Pair", "Trained", "from_text", "scores"]


def from_text(text: str) -> Pair:
    """The pair that a word on the command line stands for.

    >>> from_text("trained").kind
    'trained'

    Args:
        text: `trained`, the path of a folder of a CLIP model, or the name of one on the hub, owner/name.

    Raises:
        ValueError: it is none of these.
    """
    if text.strip().lower() == Trained.kind:
        return Trained()
    if Path(text).expanduser().is_dir() or is_name(text):
        return Clip(text)
    kinds = ", ".join(registered(Pair))
    raise ValueError(
        f"there is no image-text pair {text!r} ({kinds} are known); write trained, the folder of a CLIP model as "
        "transformers saves it, or its name on the hub, owner/name"
    )
