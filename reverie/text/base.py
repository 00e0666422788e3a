"""What a text encoder is: settings that are fitted to captions, then opened from the folder of a run.

Letters in shapes: N texts of a table, B texts of a batch, L tokens, E width of a token, D numbers of a text as a whole.
"""

from __future__ import annotations

import abc
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import APART, Cond
from reverie.config import Part

EXTRA = "pip install 'reverie[text]'"
"""Brings the packages that read text."""

log = logging.getLogger("reverie")


class TextEncoder(Part, abc.ABC, family="text"):
    """The settings of a text encoder, a frozen dataclass. A new one is a file in this folder.

    What `fit` completes stands in fields of its own, so that the config of a run says which encoder it was.
    """

    @property
    @abc.abstractmethod
    def fitted(self) -> bool:
        """Whether `fit` has completed it."""

    @abc.abstractmethod
    def fit(self, texts: Sequence[str], folder: Path) -> TextEncoder:
        """The settings completed for these captions; the files of its tokenizer are written, each whole or not at all.

        The same texts in any order, and however often each, make the same encoder and the same files.

        Args:
            texts: the captions that will be trained on; those that are empty or blank do not count.
            folder: of the run.

        Raises:
            ValueError: there is no caption, or the encoder cannot be had; the message names it.
            ImportError: a package is missing; the message says what brings it.
            OSError: the folder cannot be written.
        """

    @abc.abstractmethod
    def conditions(self) -> dict[str, Any]:
        """What a network is built to read, of a fitted encoder: arguments `tokens`, `pooled`, `reader` of `Conditions`.

        Raises:
            ValueError: it is not fitted.
        """

    @abc.abstractmethod
    def open(self, folder: Path, device: torch.device | str = "cpu") -> OpenedText:
        """A fitted encoder ready to read.

        A pretrained network is not loaded before a text comes that is in no cache; what is wrong with it is said then.

        Args:
            folder: of the run.
            device: where a pretrained network works; what is read comes to the CPU.

        Raises:
            ValueError: it is not fitted, or its files in the folder are missing or not those that were written.
            ImportError: a package is missing; the message says what brings it.
        """

    def require_fitted(self) -> None:
        """Refuse settings that `fit` has not completed.

        Raises:
            ValueError: they are such.
        """
        if not self.fitted:
            raise ValueError(f"the text encoder {self.kind} is not fitted to captions yet; call fit first")


class TextTable(abc.ABC):
    """N texts, read once, by their numbers.

    Attributes:
        length: L, the same for every batch: that of the longest text.
        drop: (N, 4), as in `Cond`: True for the text where it has no tokens; None: nowhere.
    """

    length: int
    drop: Tensor | None

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def rows(self, index: np.ndarray | Tensor) -> Cond:
        """The conditions of B texts, on the CPU, of the same fields and sizes whichever they are.

        Args:
            index: (B,) integers in 0..N - 1.
        """


class OpenedText(abc.ABC):
    """An encoder at work.

    A text that is empty or blank has no tokens, and one without tokens is marked in the column of `drop` that is
    for text: to a network it is no text at all. `drop` is None where no text of the batch, or of the table, is such.
    """

    def encode(self, texts: Sequence[str]) -> Cond:
        """The conditions of B texts, on the CPU, as long as the longest of them.

        Either `tokens` and `pooled` in float32, or `words`; with their `mask`.

        Raises:
            ValueError: the encoder is missing, or is not the one that the run was trained with.
            ImportError: a package is missing; the message says what brings it.
        """
        return self.read(texts, keep=False).rows(torch.arange(len(texts)))

    def table(self, texts: Sequence[str]) -> TextTable:
        """All captions of a training set, each different one read once, and remembered where reading is dear.

        Raises:
            ValueError: the encoder is missing, or is not the one that the run was trained with.
            ImportError: a package is missing; the message says what brings it.
        """
        return self.read(texts, keep=True)

    @abc.abstractmethod
    def read(self, texts: Sequence[str], keep: bool) -> TextTable:
        """The texts as a table; with `keep` they are remembered on the disk, where reading is dear."""

    @abc.abstractmethod
    def counts(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text is of with none cut off, marks of its beginning and end among them."""


def readable(texts: Sequence[str]) -> list[str]:
    """The texts as tokenizers take them: halves of a character, which some files of JSON have, become `?`."""
    return [text.encode("utf-8", "replace").decode("utf-8") for text in texts]


def inside(folder: Path, name: str) -> Path:
    """A file of a run's folder, by its path there.

    Raises:
        ValueError: it is a link to a file elsewhere.
    """
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} leads out of the folder of the run; put the file itself there")
    return path


def blank(text: str) -> bool:
    """Whether there is nothing to read."""
    return not text.strip()


def captions(texts: Sequence[str], kind: str) -> list[str]:
    """The different texts that are not blank, sorted.

    Raises:
        ValueError: there are none.
    """
    found = sorted({text for text in readable(texts) if not blank(text)})
    if not found:
        raise ValueError(
            f"the text encoder {kind} has no caption to be fitted to; right is data with captions: a folder "
            "with metadata.jsonl, or with image.txt beside image.png"
        )
    return found


def hidden(counts: Tensor) -> Tensor | None:
    """`drop` (N, 4) of texts of so many tokens (N,): True for the text where there are none; None: nowhere."""
    empty = counts == 0
    if not empty.any():
        return None
    return empty[:, None] & torch.tensor([part == "text" for part in APART])


def numbered(texts: Sequence[str]) -> tuple[list[str], Tensor]:
    """The different texts in the order they come in, and which of them each text is (N,) int64."""
    numbers: dict[str, int] = {}
    own = [numbers.setdefault(text, len(numbers)) for text in texts]
    return list(numbers), torch.tensor(own, dtype=torch.int64)


def warn_of_cuts(cut: int, count: int, length: int) -> None:
    """Say how many captions are longer than is read."""
    if cut:
        log.warning(
            "%d of %d captions (%.3g %%) are longer than %d tokens; the rest of them is cut off (text.length)",
            cut, count, 100 * cut / count, length,
        )  # fmt: skip
