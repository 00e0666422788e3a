"""All that a model can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reverie.conditioning import Conditions
from reverie.image_conditions import ImageCondition
from reverie.prompts.known import Known
from reverie.text import OpenedText, TextEncoder


@dataclass(frozen=True)
class Vocabulary:
    """By what a run's model is told what to make: its classes, attributes, text and image, whichever it has.

    Attributes:
        shape: of one example.
        classes: names of classes.
        attributes: each a part of `Cond.vector`, one behind the other.
        text: the fitted encoder.
        image: what a conditioning image is.
        embedding: E, of an image or a text in the space of an image-text pair, in `Cond.vector`; 0 for none.
        folder: the run's, where the encoder has its files.
        leaps: whether the model is told where a step ends.
        scales: whether it is told the scale of the guidance that it does by itself.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    attributes: tuple[Known, ...] = ()
    text: TextEncoder | None = None
    image: ImageCondition | None = None
    folder: Path = Path()
    embedding: int = 0
    leaps: bool = False
    scales: bool = False

    @property
    def conditions(self) -> Conditions:
        """What a network must be built to read."""
        told = {} if self.text is None else self.text.conditions()
        return Conditions(
            classes=len(self.classes),
            vector=self.embedding or sum(known.width for known in self.attributes),
            image=0 if self.image is None else self.image.channels(self.shape),
            keeps_image=self.image is not None and self.image.kept,
            level=self.image is not None and self.image.levels,
            until=self.leaps,
            scale=self.scales,
            **told,
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """What can be told, in words: label, the names of attributes, text, image."""
        names = ["label"] if self.classes else []
        names += [known.name for known in self.attributes]
        names += ["text"] if self.text is not None else []
        return (*names, "image") if self.image is not None else tuple(names)

    @property
    def asks(self) -> bool:
        """Whether a prompt can ask for more than a class: for attributes, or by a text."""
        return bool(self.attributes) or self.text is not None

    @property
    def plain(self) -> bool:
        """Whether nothing can be told but a class."""
        return not self.asks and self.image is None and not self.embedding

    @property
    def apart(self) -> tuple[str, ...]:
        """What is hidden by itself in training, of `reverie.conditioning.APART`; nothing where only one thing is told.

        Of several attributes that is also each, as `vector.0`, `vector.1`, ...; and all of them together only where
        something else is told.
        """
        several = len(self.attributes) > 1
        others = bool(self.classes) or self.text is not None or self.image is not None or bool(self.embedding)
        names = ["label"] if self.classes else []
        names += [f"vector.{i}" for i in range(len(self.attributes))] if several else []
        names += ["vector"] if self.attributes and (others or not several) else []
        names += ["vector"] if self.embedding else []
        names += ["text"] if self.text is not None else []
        names += ["image"] if self.image is not None and not self.image.kept else []
        return tuple(names) if len(names) > 1 else ()

    @cached_property
    def reader(self) -> OpenedText:
        """The text encoder, ready.

        Raises:
            ValueError: there is none, or its weights are not those of training.
            ImportError: a package is missing.
        """
        if self.text is None:
            raise ValueError(f"{self.folder} was trained without captions, so it reads no text")
        return self.text.open(self.folder)

    def attribute(self, name: str) -> Known:
        """The attribute of that name.

        Raises:
            ValueError: there is none.
        """
        found = {known.name: known for known in self.attributes}
        if name not in found:
            known = f"it has: {', '.join(found)}" if found else "it was trained without attributes"
            raise ValueError(f"{self.folder} knows no attribute {name!r}; {known}")
        return found[name]
