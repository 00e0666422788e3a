"""A small transformer that is trained with the network, from scratch, with a vocabulary of the captions' own.

Letters in shapes: N texts of a table, B texts of a batch, L words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import Cond, Reader
from reverie.files import write_text
from reverie.text.base import (
    OpenedText,
    TextEncoder,
    TextTable,
    blank,
    captions,
    hidden,
    inside,
    numbered,
    readable,
    warn_of_cuts,
)

FILE = "tokenizer.json"
BYTES = 256
"""The least vocabulary: with a word for each byte there is no text that cannot be read."""
TWICE = 2
"""Pairs that come once make no word of their own: what is seen once teaches nothing."""


@dataclass(frozen=True)
class Transformer(TextEncoder, kind="transformer"):
    """Words of byte-pair encoding (Sennrich et al., 2016; of bytes: Radford et al., 2019), read inside the network.

    Texts are normalised (NFC), brought to lower case, and each run of blanks becomes one; then the pair of neighbours
    that comes most often in the captions becomes a word, again and again, within what blanks and punctuation part.
    The transformer of `depth` blocks that makes tokens of the words is `reverie.nets.reading.Reading`.

    Raises:
        ValueError: fewer words than bytes, or sizes that `Reader` refuses.
    """

    words: int = 8192
    """The most words."""
    length: int = 64
    """L, words of a text at the most; the rest is cut off."""
    width: int = 128
    """E, of the tokens."""
    depth: int = 2
    """Blocks."""
    heads: int = 4
    vocabulary: int = 0
    """Fitted: how many words there are."""
    digest: str = ""
    """Fitted: a hash of the tokenizer."""

    def __post_init__(self) -> None:
        if self.words < BYTES:
            raise ValueError(
                f"words of the text encoder {self.kind} must be at least {BYTES}, one for each byte; given {self.words}"
            )
        self._reader(self.words)

    @property
    def fitted(self) -> bool:
        """Whether there is a vocabulary."""
        return bool(self.digest)

    def fit(self, texts: Sequence[str], folder: Path) -> Transformer:
        """With a vocabulary of these captions, which is written as `tokenizer.json`."""
        known = captions(texts, self.kind)
        tokenizer = _trained(known, self.words)
        warn_of_cuts(sum(len(tokenizer.encode(text).ids) > self.length for text in known), len(known), self.length)
        text = tokenizer.to_str(pretty=True)
        write_text(folder / FILE, text)
        return replace(self, vocabulary=tokenizer.get_vocab_size(), digest=_hash(text))

    def conditions(self) -> dict[str, Any]:
        """`tokens` and `reader`."""
        self.require_fitted()
        return {"tokens": self.width, "reader": self._reader(self.vocabulary)}

    def open(self, folder: Path, device: torch.device | str = "cpu") -> OpenedText:
        """With the `tokenizer.json` of the run."""
        self.require_fitted()
        from tokenizers import Tokenizer

        path = inside(folder, FILE)
        if not path.is_file():
            raise ValueError(
                f"{path} is missing: the vocabulary of the text encoder {self.kind}, without which no text is read"
            )
        text = path.read_text(encoding="utf-8", errors="replace")
        if _hash(text) != self.digest:
            raise ValueError(
                f"{path} is not the vocabulary that this run was trained with: its hash is {_hash(text)}, and that of "
                f"the text encoder {self.kind} is {self.digest}; bring the file back as it was written"
            )
        return OpenedTransformer(Tokenizer.from_str(text), self.length)

    def _reader(self, words: int) -> Reader:
        return Reader(words=words, length=self.length, width=self.width, depth=self.depth, heads=self.heads)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _trained(texts: Sequence[str], words: int) -> Any:  # noqa: ANN401  # of a library without annotations
    """A tokenizer of these texts, which are different and sorted."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer: Any = Tokenizer(models.BPE())
    one_blank = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), one_blank, normalizers.Strip()]
    )
    # With a blank in front, the first word of a text is the same word as anywhere else.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words, min_frequency=TWICE, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class OpenedTransformer(OpenedText):
    """Texts to numbers of words.

    Args:
        tokenizer: of the package `tokenizers`.
        length: L at the most.
    """

    def __init__(self, tokenizer: Any, length: int) -> None:  # noqa: ANN401  # of a library without annotations
        self.tokenizer, self.length = tokenizer, length

    def read(self, texts: Sequence[str], keep: bool) -> TextTable:
        """Numbers of words are found too quickly to be kept."""
        texts = readable(texts)
        known, own = numbered(texts)
        found = [ids[: self.length] for ids in self._ids(known)]
        words = torch.zeros(len(known), max([1, *map(len, found)]), dtype=torch.int32)
        for row, ids in zip(words, found, strict=True):
            row[: len(ids)] = torch.tensor(ids, dtype=torch.int32)
        counts = torch.tensor([len(ids) for ids in found], dtype=torch.int64)
        return Words(words, counts, own)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Words of each text."""
        return [len(ids) for ids in self._ids(readable(texts))]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [[] if blank(text) else self.tokenizer.encode(text).ids for text in texts]


class Words(TextTable):
    """Numbers of words of K different texts.

    Args:
        words: (K, L) integers.
        counts: (K,) int64, how many of them are real.
        own: (N,) int64, which of the K each text is.
    """

    def __init__(self, words: Tensor, counts: Tensor, own: Tensor) -> None:
        self.words, self.counts, self.own, self.drop = words, counts, own, hidden(counts[own])
        self.length = words.shape[1]

    def __len__(self) -> int:
        return len(self.own)

    def rows(self, index: np.ndarray | Tensor) -> Cond:
        """`words` (B, L) int64, `mask` and `drop`."""
        index = torch.as_tensor(index, dtype=torch.int64)
        which = self.own[index]
        mask = torch.arange(self.length) < self.counts[which, None]
        drop = None if self.drop is None else self.drop[index]
        return Cond(words=self.words[which].long(), mask=mask, drop=drop)
