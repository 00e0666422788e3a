"""A table of the states of texts, which lie where they were found: on the disk, mapped, or in memory.

Letters in shapes: N texts, K different ones, B texts of a batch, L tokens, T tokens of all texts of a piece, E width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.text.base import TextTable, hidden
from reverie.text.cache import Piece


class States(TextTable):
    """States of K different texts.

    Args:
        found: the piece of each and its place there; None for one without tokens.
        own: (N,) int64, which of the K each text is.
        sizes: E of tokens, and of pooled vectors, 0 for none.
    """

    def __init__(self, found: Sequence[tuple[Piece, int] | None], own: Tensor, sizes: tuple[int, int]) -> None:
        self.own, self.sizes = own, sizes
        self.pieces = list({id(each[0]): each[0] for each in found if each is not None}.values())
        numbers = {id(piece): p for p, piece in enumerate(self.pieces)}
        places = [(-1, 0) if each is None else (numbers[id(each[0])], each[1]) for each in found]
        self.piece, self.place = torch.tensor(places, dtype=torch.int64).reshape(-1, 2).unbind(1)
        self.start, self.count = torch.zeros_like(self.place), torch.zeros_like(self.place)
        for p, piece in enumerate(self.pieces):
            here = self.piece == p
            k = self.place[here]
            self.start[here], self.count[here] = piece.ends[k], piece.ends[k + 1] - piece.ends[k]
        self.length = max([1, *self.count.tolist()])
        self.drop = hidden(self.count[own])

    def __len__(self) -> int:
        return len(self.own)

    def rows(self, index: np.ndarray | Tensor) -> Cond:
        """`tokens` (B, L, E) and `pooled` (B, E) in float32, `mask` and `drop`."""
        index = torch.as_tensor(index, dtype=torch.int64)
        which, (width, whole) = self.own[index], self.sizes
        mask = torch.arange(self.length) < self.count[which, None]
        tokens = torch.zeros(len(index), self.length, width)
        pooled = torch.zeros(len(index), whole)
        at = self.start[which, None] + torch.arange(self.length)
        for p, piece in enumerate(self.pieces):
            here = self.piece[which] == p
            real = mask & here[:, None]
            tokens[real] = piece.states[at[real]].float()
            pooled[here] = piece.pooled[self.place[which[here]]].float()
        drop = None if self.drop is None else self.drop[index]
        return Cond(tokens=tokens, mask=mask, pooled=pooled if whole else None, drop=drop)
