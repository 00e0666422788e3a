"""What many samples are asked to be, made into conditions a batch at a time.

Letters in shapes: N samples, B of a batch, C' channels of a conditioning image, ... axes of space, E numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.conditioning import APART, Cond
from reverie.prompts.prompt import Prompt
from reverie.prompts.vocabulary import Vocabulary
from reverie.text import TextTable

MANY = 4096
"""More different texts than these are not held in memory, where an encoder has a cache."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The prompts of N samples, whose conditions are made as they are wanted.

    A text's states are a thousand times its letters: each different text is read once, into a table without padding,
    and its row is made for the batch that it is in. What is hidden is settled for all N, so that a sample's
    condition does not depend on its batch.

    Attributes:
        vocabulary: of the model.
        prompts: N of them.
        image: (1 or N, C', ...).
        level: (1 or N,), of the noise on the image; None where the vocabulary tells none, or there is no image.
        table: the different texts, where the model reads any.
        own: (N,) int64, which of them is each sample's.
        drop: as in `Cond`.
    """

    vocabulary: Vocabulary
    prompts: tuple[Prompt, ...]
    image: Tensor | None
    level: Tensor | None
    table: TextTable | None
    own: Tensor
    drop: Tensor | None
    vector: Tensor | None = None

    @classmethod
    def of(
        cls, vocabulary: Vocabulary, prompts: Sequence[Prompt], image: Tensor | None = None,
        level: Tensor | None = None, vector: Tensor | None = None,
    ) -> Asked | None:  # fmt: skip
        """The conditions of N prompts; None where nothing is asked.

        Args:
            vocabulary: of the model.
            prompts: N of them.
            image: (1 or N, C', ...), what `ImageCondition.given` made of a picture, in each sample's place or for all.
            level: (1 or N,), of the noise on the image; 0 unless given, for a model that is told one.
            vector: (1 or N, E), embeddings, for a model that is told one.

        Raises:
            ValueError: an image or a level is given to a model that has no use for one, a level without an image, or
                either is of other sizes.
        """
        if image is not None or level is not None:
            _check_image(vocabulary, image, level, len(prompts))
        if vector is not None:
            _check_vector(vocabulary, vector, len(prompts))
        if image is None and vector is None and all(prompt.empty for prompt in prompts):
            return None
        numbers: dict[str, int] = {}
        own = torch.tensor([numbers.setdefault(prompt.text, len(numbers)) for prompt in prompts])
        table = None if vocabulary.text is None else _read(vocabulary, list(numbers))
        if image is not None and level is None and vocabulary.conditions.level:
            level = torch.zeros(1)
        drop = _drop(vocabulary, prompts, table, own, image)
        return cls(vocabulary, tuple(prompts), image, level, table, own, drop, vector)

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: slice | Tensor) -> Cond:
        """The conditions of B of the samples, on the CPU."""
        rows = torch.arange(len(self))[index]
        prompts = [self.prompts[i] for i in rows.tolist()]
        told = Cond(drop=None if self.drop is None else self.drop[rows])
        if self.vocabulary.classes:
            told = replace(told, label=torch.tensor([prompt.label or 0 for prompt in prompts]))
        if self.vocabulary.attributes:
            told = replace(told, vector=_vector(self.vocabulary, prompts))
        if self.table is not None:
            told = replace(told, **_text(self.table.rows(self.own[rows]), getattr(self.vocabulary.text, "length", 0)))
        if self.image is not None:
            image = self.image.expand(len(self), *self.image.shape[1:])
            told = replace(told, image=image[index])
        if self.vector is not None:
            told = replace(told, vector=self.vector.expand(len(self), -1)[index])
        if self.level is not None:
            told = replace(told, level=self.level.expand(len(self))[index])
        return told

    def part(self, first: int, last: int) -> Asked:
        """Samples `first` to `last` - 1, of the same table."""
        several = (self.image, self.level, self.vector)
        image, level, vector = (v if v is None or len(v) == 1 else v[first:last] for v in several)
        drop = None if self.drop is None else self.drop[first:last]
        own, prompts = self.own[first:last], self.prompts[first:last]
        return replace(self, prompts=prompts, image=image, level=level, own=own, drop=drop, vector=vector)


def cond_of(
    vocabulary: Vocabulary, prompts: Sequence[Prompt], image: Tensor | None = None, level: Tensor | None = None
) -> Cond | None:
    """The conditions of a few prompts, made at once; arguments and errors as for `Asked.of`."""
    asked = Asked.of(vocabulary, prompts, image, level)
    return None if asked is None else asked[:]


def _check_image(vocabulary: Vocabulary, image: Tensor | None, level: Tensor | None, n: int) -> None:
    """Refuse an image and a level that the model is not told, or of other sizes."""
    if vocabulary.image is None:
        raise ValueError(f"{vocabulary.folder} was trained without images as conditions, so it has no use for one")
    if image is None:
        raise ValueError("a level is that of the noise on an image; give the image too")
    wanted = (vocabulary.image.channels(vocabulary.shape), *vocabulary.shape[1:])
    several = f"1 or {n}" if n > 1 else "1"
    if len(image) not in (1, n) or tuple(image.shape[1:]) != wanted:
        raise ValueError(f"image must be of ({several}, {', '.join(map(str, wanted))}); given {tuple(image.shape)}")
    if level is None:
        return
    if not vocabulary.image.levels:
        raise ValueError(f"{vocabulary.folder} was trained on images without noise, and is told no level of it")
    if level.ndim != 1 or len(level) not in (1, n):
        raise ValueError(f"level must be of ({several},); given {tuple(level.shape)}")


def _check_vector(vocabulary: Vocabulary, vector: Tensor, n: int) -> None:
    """Refuse embeddings that the model is not told, or of other sizes."""
    if not vocabulary.embedding:
        raise ValueError(f"{vocabulary.folder} was trained without embeddings, so it has no use for one")
    if vector.ndim != 2 or len(vector) not in (1, n) or vector.shape[1] != vocabulary.embedding:
        several = f"1 or {n}" if n > 1 else "1"
        raise ValueError(f"embeddings must be of ({several}, {vocabulary.embedding}); given {tuple(vector.shape)}")


def _read(vocabulary: Vocabulary, texts: Sequence[str]) -> TextTable:
    return vocabulary.reader.read(texts, keep=len(texts) > MANY)


def _drop(
    vocabulary: Vocabulary, prompts: Sequence[Prompt], table: TextTable | None, own: Tensor, image: Tensor | None
) -> Tensor | None:
    """`Cond.drop` of N samples: what a prompt leaves out, and a text without tokens."""
    hidden = dict.fromkeys(APART, torch.zeros(len(prompts), dtype=torch.bool))
    if vocabulary.classes:
        hidden["label"] = torch.tensor([prompt.label is None for prompt in prompts])
    if vocabulary.attributes:
        hidden["vector"] = torch.tensor([not prompt.attributes for prompt in prompts])
    if table is not None:
        silent = torch.tensor([not prompt.text for prompt in prompts])
        hidden["text"] = silent if table.drop is None else silent | table.drop[own, APART.index("text")]
    drop = torch.stack([hidden[part] for part in APART], 1)
    if not drop.any():
        return None
    alone = not vocabulary.attributes and not vocabulary.embedding and table is None and image is None
    return drop[:, 0] if alone else drop


def _vector(vocabulary: Vocabulary, prompts: Sequence[Prompt]) -> Tensor:
    """(B, E): every attribute's numbers, one behind the other."""
    blocks = []
    for known in vocabulary.attributes:
        rows = []
        for prompt in prompts:
            value = prompt.attributes.get(known.name)
            told = None if value is None else np.array([value], np.int64 if known.classes else np.float64)
            rows.append(known.unknown if told is None else known.numbers(told)[0])
        blocks.append(np.stack(rows))
    return torch.from_numpy(np.concatenate(blocks, 1))


def _text(read: Cond, length: int) -> dict[str, Tensor | None]:
    """The fields of texts, filled up to the encoder's own length.

    So what a text is to the network does not depend on what other texts are asked for beside it.
    """
    assert read.mask is not None
    missing = max(0, length - read.mask.shape[1])
    return {
        "pooled": read.pooled,
        "mask": F.pad(read.mask, (0, missing)),
        "words": None if read.words is None else F.pad(read.words, (0, missing)),
        "tokens": None if read.tokens is None else F.pad(read.tokens, (0, 0, 0, missing)),
    }
