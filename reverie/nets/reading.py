"""A small transformer by which a network reads a text itself, trained with it from scratch.

Letters in shapes: B batch, L words, E width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Reader


class Reading(nn.Module):
    """Numbers of words (B, L) to tokens (B, L, E), as GLIDE reads its captions (Nichol et al., 2022, section 4.1).

        h = word + place;  h <- h + attention(LN(h));  h <- h + MLP(LN(h))  (`depth` times);  tokens = LN(h)

    Words and places start small, of deviation 0.02 (Radford et al., 2018): the norms see their directions alone, which
    an optimizer such as Adam turns in fewer steps than those of long vectors.

    Words that the mask hides are not looked at. A text of which all words are hidden makes tokens that mean
    nothing, which the mask hides too.
    """

    def __init__(self, reader: Reader) -> None:
        """`reader` has the sizes."""
        super().__init__()
        self.sizes = reader
        self.word = nn.Embedding(reader.words, reader.width)
        self.place = nn.Parameter(0.02 * torch.randn(reader.length, reader.width))
        nn.init.normal_(self.word.weight, std=0.02)
        self.blocks = nn.ModuleList(_Block(reader.width, reader.heads) for _ in range(reader.depth))
        self.norm = nn.LayerNorm(reader.width)

    def forward(self, words: Tensor, mask: Tensor | None = None) -> Tensor:
        """`words` is (B, L) int64 and `mask` (B, L) bool, True where a word is real.

        Raises:
            ValueError: more words than the network was built for.
        """
        length = words.shape[1]
        if length > len(self.place):
            raise ValueError(f"this network reads texts of {len(self.place)} tokens at the most; given {length}")
        h = self.word(words) + self.place[:length]
        for block in self.blocks:
            h = block(h, mask)
        return self.norm(h)


class _Block(nn.Module):
    """Attention of words to each other, then an MLP of 4 E, each on a norm of what came before it (B, L, E)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = self.qkv(self.before(h)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = None
        if mask is not None:  # a text without words attends to all, for a softmax of nothing is NaN
            seen = (mask | ~mask.any(1, keepdim=True))[:, None, None]
        made = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        h = h + self.joined(made.transpose(1, 2).flatten(2))
        return h + self.outer(F.gelu(self.inner(self.between(h))))
