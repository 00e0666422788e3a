"""Diffusion transformer: an image as a sequence of patches.

Letters in shapes: B batch, C channels, H height, W width of an image, L tokens (patches), E width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig, a_fraction, at_least_one, is_image
from reverie.nets.embeddings import Embedded, grid_positions
from reverie.nets.kernels import layer_norm
from reverie.nets.layers import Attention, Linear, zeroed


@dataclass(frozen=True)
class DiTConfig(NetConfig, kind="dit"):
    """Settings of a `DiT` (Peebles & Xie, 2023)."""

    patch: int = 2
    """Side of a patch, in pixels; the cost falls with its fourth power once attention dominates."""
    width: int = 128
    """E, a multiple of 4 and of `heads`."""
    depth: int = 6
    """Blocks."""
    heads: int = 4
    """Attention heads a block."""
    mlp_ratio: int = 4
    """Hidden units of a block's MLP, in units of `width`."""
    dropout: float = 0.0
    """On what a block's attention and MLP add."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        at_least_one(self.kind, patch=self.patch, width=self.width, depth=self.depth)
        at_least_one(self.kind, heads=self.heads, mlp_ratio=self.mlp_ratio)
        a_fraction(self.kind, self.dropout)
        if self.width % 4 or self.width % self.heads:
            raise ValueError(
                f"width of net 'dit' must be a multiple of 4 and of heads={self.heads}, given {self.width}"
            )

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Images."""
        return is_image(shape)

    def build(self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1) -> DiT:
        """A `DiT` for images of `shape` (C, H, W)."""
        self.require(shape)
        return DiT(self, shape, conditions, inputs, outputs)


class DiT(Backbone):
    """A transformer over patches, its blocks modulated by the time label and the class (adaLN-zero).

    Patches get a linear map and fixed sines and cosines of their row and column. Images of any size:
    zeros are put below and to the right up to a multiple of the patch, and cut off at the end.
    """

    positions: Tensor

    def __init__(
        self, config: DiTConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is (C, H, W), the only one that the network then takes."""
        super().__init__(shape, conditions, config.width, inputs, outputs, multiple=config.patch)
        self.patch = config.patch
        self.rows, self.columns = (-(-n // config.patch) for n in shape[1:])
        self.enter = Linear(self.channels_in * config.patch**2, config.width)
        positions = grid_positions((self.rows, self.columns), config.width)
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = nn.ModuleList(DiTBlock(config) for _ in range(config.depth))
        self.modulation = zeroed(Linear(config.width, 2 * config.width))
        self.out = zeroed(Linear(config.width, self.channels_out * config.patch**2))

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        h = self.enter(self._split(h)) + self.positions
        for block in self.blocks:
            h = self.through(block, h, told.e)
        scale, shift = self.modulation(told.e).chunk(2, dim=1)
        return self._join(self.out(layer_norm(h, scale, shift)))

    def _split(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, L, C p p), the patches row by row."""
        x = x.unflatten(-1, (self.columns, self.patch)).unflatten(-3, (self.rows, self.patch))
        return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def _join(self, h: Tensor) -> Tensor:
        """(B, L, C p p) -> (B, C, H, W), the inverse of `_split`."""
        h = h.unflatten(-1, (-1, self.patch, self.patch)).unflatten(1, (self.rows, self.columns))
        return h.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


class DiTBlock(nn.Module):
    """adaLN-zero (Peebles & Xie, 2023, section 3.2): (B, L, E) and an embedding (B, E) -> (B, L, E).

        h <- h + gate * attention(LN(h) * (1 + scale) + shift)
        h <- h + gate' * MLP(LN(h) * (1 + scale') + shift')

    All six come from one linear map of the embedding that starts at 0: the block starts as the identity.
    """

    def __init__(self, config: DiTConfig) -> None:
        """A block of width E = `config.width`."""
        super().__init__()
        width, hidden = config.width, config.width * config.mlp_ratio
        self.attention = Attention(width, config.heads)
        self.inner = Linear(width, hidden)
        self.outer = Linear(hidden, width)
        self.dropout = nn.Dropout(config.dropout)
        self.modulation = zeroed(Linear(width, 6 * width))
        for layer in (self.attention.qkv, self.attention.out, self.inner, self.outer):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, L, E), `e` (B, E)."""
        scale, shift, gate, scale2, shift2, gate2 = self.modulation(e).chunk(6, dim=1)
        h = h + gate[:, None] * self.dropout(self.attention(layer_norm(h, scale, shift)))
        inner = F.gelu(self.inner(layer_norm(h, scale2, shift2)), approximate="tanh")
        out: Tensor = h + gate2[:, None] * self.dropout(self.outer(inner))
        return out
