"""A transformer for vectors.

Letters in shapes: B batch, C numbers of an example, P tokens of it, E width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig, a_fraction, at_least_one
from reverie.nets.dit import DiTBlock, DiTConfig
from reverie.nets.embeddings import Embedded
from reverie.nets.kernels import layer_norm
from reverie.nets.layers import Linear, zeroed


@dataclass(frozen=True)
class TransformerConfig(NetConfig, kind="transformer"):
    """Settings of a `Transformer`, for vectors that are told a text, such as embeddings of images.

    Raises:
        ValueError: settings that no network has.
    """

    width: int = 256
    """E."""
    depth: int = 6
    """Blocks."""
    heads: int = 4
    parts: int = 8
    """P, tokens that a vector is read as."""
    dropout: float = 0.0
    """On what a block's attention and MLP add."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        at_least_one(self.kind, width=self.width, depth=self.depth, heads=self.heads, parts=self.parts)
        a_fraction(self.kind, self.dropout)
        if self.width % 4 or self.width % self.heads:
            raise ValueError(
                f"width of net 'transformer' must be a multiple of 4 and of heads={self.heads}, given {self.width}"
            )

    def block(self) -> DiTConfig:
        """The settings of its blocks."""
        return DiTConfig(width=self.width, depth=self.depth, heads=self.heads, dropout=self.dropout)

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Vectors (C,)."""
        return len(shape) == 1 and shape[0] >= 1

    def build(
        self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1
    ) -> Transformer:
        """A `Transformer` for examples of `shape` (C,).

        Raises:
            ValueError: they are no vectors.
        """
        self.require(shape)
        return Transformer(self, shape, conditions, inputs, outputs)


class Transformer(Backbone):
    """A vector as P tokens, among themselves and towards a text, modulated by time and conditions.

        h_p = W_p x + position_p                    p = 1..P
        h = block_i(h, e, tokens)                   i = 0..depth - 1, as those of `DiT`
        out = V [h_1, ..., h_P]                     after a norm with adaLN

    It stands where DALL-E 2 has its prior, a transformer on the text's tokens, its embedding, the time and the noisy
    embedding of an image (Ramesh et al., 2022, section 2.2): the first by attention, the others by what modulates.
    V starts at 0.
    """

    def __init__(
        self, config: TransformerConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is (C,)."""
        super().__init__(shape, conditions, config.width, inputs, outputs, features=256)
        width = config.width
        self.parts = config.parts
        self.enter = Linear(self.channels_in, config.parts * width)
        self.position = nn.Parameter(0.02 * torch.randn(config.parts, width))
        self.blocks = nn.ModuleList(DiTBlock(config.block(), bool(conditions.tokens)) for _ in range(config.depth))
        self.modulation = zeroed(Linear(width, 2 * width))
        self.out = zeroed(Linear(config.parts * width, self.channels_out))

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        h = self.enter(h).unflatten(1, (self.parts, -1)) + self.position
        for block in self.blocks:
            h = self.through(block, h, told.e, told.tokens, told.mask)
        shift, scale = self.modulation(told.e).chunk(2, dim=1)
        return self.out(layer_norm(h, scale, shift).flatten(1))
