"""What a model is told of examples, row by row: in training, in validation, wherever data are at hand.

Letters in shapes: N examples, B batch, P parts of a condition, A attributes, E numbers that stand for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import APART, Cond
from reverie.data import Examples
from reverie.image_conditions import Shown
from reverie.prompts.known import Known
from reverie.prompts.vocabulary import Vocabulary
from reverie.tensors import generator
from reverie.text import TextTable


@dataclass(frozen=True)
class Place:
    """Which of the G examples of a step, or of another whole, the B rows of a batch are.

    Chance is drawn for the whole, of which each batch keeps its own, so that it falls on an example the same way
    however the whole is divided.

    Attributes:
        first: the number of the first row.
        whole: G.
        key: of the randomness, as `reverie.tensors.generator` takes it.
    """

    first: int
    whole: int
    key: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class OfExamples:
    """The conditions of a run's examples, besides their class.

    Attributes:
        vocabulary: what the model can be told.
        examples: all N.
        embedded: (N, E), where an embedding is told; a row of NaN for an example that has none.
    """

    vocabulary: Vocabulary
    examples: Examples
    embedded: Tensor | None = None

    @property
    def several(self) -> int:
        """P, how many parts of a condition are hidden apart in training: see `Vocabulary.apart`."""
        return len(self.vocabulary.apart)

    @cached_property
    def _values(self) -> list[tuple[Known, np.ndarray]]:
        """Of each attribute of the vocabulary, its values (N,) or (N, D)."""
        own = {attribute.name: attribute for attribute in self.examples.attributes}
        return [(known, own[known.name].values) for known in self.vocabulary.attributes]

    @cached_property
    def _vector(self) -> Tensor:
        """(N, E) float32."""
        return torch.from_numpy(np.concatenate([known.numbers(values) for known, values in self._values], 1))

    @cached_property
    def _unknown(self) -> Tensor:
        """(N, A) bool, where an attribute is not known."""
        return torch.from_numpy(np.stack([~known.known(values) for known, values in self._values], 1))

    @cached_property
    def _texts(self) -> TextTable:
        return self.vocabulary.reader.table(self.examples.texts)

    def ready(self) -> None:
        """Make what takes long, such as the embeddings of all texts, before it is needed."""
        if self.vocabulary.text is not None:
            _ = self._texts

    def cond(
        self,
        rows: np.ndarray,
        x0: Tensor,
        label: Tensor | None = None,
        hidden: Tensor | None = None,
        apart: Tensor | None = None,
        place: Place | None = None,
    ) -> Cond | None:
        """The conditions of B rows, on the device of x0.

        Args:
            rows: (B,) indices of examples.
            x0: (B, ...), as the model sees them, which an image condition is made of.
            label: (B,), their classes, if those are told.
            hidden: (B,) bool, whose condition is hidden altogether.
            apart: (B, P) bool, which parts are hidden by themselves, in the order of `Vocabulary.apart`.
            place: by which chance has its part in an image condition; that of a whole unless given.
        """
        own = {} if apart is None else dict(zip(self.vocabulary.apart, apart.unbind(1), strict=True))
        told, drop = Cond(label=label), {part: own.get(part) for part in APART}
        if self.vocabulary.attributes:
            vector, unknown = self._attributes(rows, own)
            told, drop["vector"] = replace(told, vector=vector), _either(drop["vector"], unknown)
        if self.vocabulary.embedding:
            assert self.embedded is not None
            vector = self.embedded[torch.from_numpy(rows)]
            none = vector.isnan().any(1)
            told = replace(told, vector=vector.nan_to_num(0.0))
            drop["vector"] = _either(drop["vector"], none if bool(none.any()) else None)
        if self.vocabulary.text is not None:
            text = self._texts.rows(rows)
            told = replace(told, tokens=text.tokens, mask=text.mask, pooled=text.pooled, words=text.words)
            drop["text"] = _either(drop["text"], text.hidden("text"))
        if self.vocabulary.image is not None:
            shown = self._image(x0, place or Place(0, len(x0), (0,)))
            told = replace(told, image=shown.image, level=shown.level)
        if not told.given():
            return None
        return replace(told, drop=_joined(drop, hidden, len(rows))).map(lambda v: _moved(v, x0.device))

    def _attributes(self, rows: np.ndarray, own: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """(B, E), with those that are hidden by themselves as not known; and (B,) bool, where none is known."""
        attributes = self.vocabulary.attributes
        numbers, unknown = self._vector[rows], list(self._unknown[rows].unbind(1))
        if own and len(attributes) > 1:
            masks = [own[f"vector.{i}"] for i in range(len(attributes))]
            blocks = zip(masks, attributes, numbers.split([known.width for known in attributes], 1), strict=True)
            made = [torch.where(m[:, None], torch.from_numpy(known.unknown), block) for m, known, block in blocks]
            numbers, unknown = torch.cat(made, 1), [u | m for u, m in zip(unknown, masks, strict=True)]
        elif not self._unknown.all(1).any():
            return numbers, None
        return numbers, torch.stack(unknown).all(0)

    def _image(self, x0: Tensor, place: Place) -> Shown:
        assert self.vocabulary.image is not None
        own, others = slice(place.first, place.first + len(x0)), place.whole - len(x0)
        whole = x0 if others == 0 else x0.new_zeros(place.whole, *x0.shape[1:])
        if others:
            whole[own] = x0
        return self.vocabulary.image.of(whole, generator(*place.key))[own]


def _either(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """(B,) bool, where one of two is True; None is nowhere."""
    return b if a is None else a if b is None else a | b


def _joined(drop: dict[str, Tensor | None], hidden: Tensor | None, batch: int) -> Tensor | None:
    """`Cond.drop` of what is hidden: (B,) where nothing is hidden apart, (B, 4) else."""
    if all(mask is None for mask in drop.values()):
        return hidden
    none = torch.zeros(batch, dtype=torch.bool)
    return torch.stack([none if (mask := _either(drop[part], hidden)) is None else mask for part in APART], 1)


def _moved(values: Tensor, device: torch.device) -> Tensor:
    """On a device, without waiting for it."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)
