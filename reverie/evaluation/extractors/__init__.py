"""Extractors: what turns examples into features, a file each."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path

from reverie.config import lookup, registered
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Features, Opened
from reverie.evaluation.extractors.classifier import Classifier
from reverie.evaluation.extractors.efficientnet import EfficientNetLite0
from reverie.evaluation.extractors.embedding import aligned, blocks, embed
from reverie.evaluation.extractors.pixels import Pixels
from reverie.evaluation.extractors.values import Values
from reverie.evaluation.extractors.weights import Weights, is_name

__all__ = [
    "Classifier",
    "EfficientNetLite0",
    "Extractor",
    "Features",
    "Opened",
    "Pixels",
    "Values",
    "Weights",
    "aligned",
    "blocks",
    "embed",
    "from_text",
    "suited",
]


def from_text(text: str) -> Extractor:
    """The extractor that a word, a path or the name of a repository on the hub stands for.

    >>> from_text("pixels")
    Pixels(side=64)
    >>> from_text("facebook/dinov2-base")
    Weights(path='facebook/dinov2-base')

    Raises:
        ValueError: it is none of these.
    """
    text = text.strip()
    known = [kind for kind, cls in registered(Extractor).items() if not _required(cls)]
    if Path(text).suffix == "" and "/" not in text:
        try:
            cls = lookup(Extractor, text)
        except ValueError:
            pass
        else:
            if cls.kind in known:
                return cls()  # type: ignore[return-value]  # a family's parts are of the family
    if text and (Path(text).expanduser().exists() or is_name(text)):
        return Weights(text)
    raise ValueError(
        f"there is no extractor {text!r}; it is one of {', '.join(known)}, a file or folder of weights, "
        "or the name of a repository on the Hugging Face hub, such as facebook/dinov2-base"
    )


SMALL = 16
"""Pixels of the shorter side below which pictures are little to a network that was trained on photographs."""


def suited(real: Collection) -> tuple[Extractor, ...]:
    """What examples are compared in unless told: the best network there is, the classifier, and the bare numbers.

    Of pictures below `SMALL` pixels a classifier of their labels sees more than a large network.
    """
    learnt: tuple[Extractor, ...] = (Classifier(),) if Classifier.suits(real) else ()
    if not real.image:
        return *learnt, Values()
    large = EfficientNetLite0.available() and (min(real.shape[1:]) >= SMALL or not learnt)
    network: tuple[Extractor, ...] = (EfficientNetLite0(),) if large else ()
    return *network, *learnt, Pixels()


def _required(cls: type) -> bool:
    """Whether a part has a setting without default."""
    return any(f.default is MISSING and f.default_factory is MISSING for f in fields(cls))
