"""A residual multilayer perceptron, for examples of any shape.

Letters in shapes: B batch, D numbers of one example, E width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig, a_fraction, at_least_one
from reverie.nets.embeddings import Embedded
from reverie.nets.layers import Linear, zeroed


@dataclass(frozen=True)
class MLPConfig(NetConfig, kind="mlp"):
    """Settings of an `MLP`."""

    width: int = 256
    """E, even: hidden units and the embedding."""
    depth: int = 4
    """Residual blocks, of two layers each."""
    dropout: float = 0.0
    """On the hidden units of a block."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        at_least_one(self.kind, width=self.width, depth=self.depth)
        a_fraction(self.kind, self.dropout)
        if self.width % 2:
            raise ValueError(f"width of net 'mlp' must be even, given {self.width}")

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Anything that holds a number."""
        return bool(shape) and math.prod(shape) >= 1

    def build(self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1) -> MLP:
        """An `MLP` for examples of any `shape`."""
        self.require(shape)
        return MLP(self, shape, conditions, inputs, outputs)


class MLP(Backbone):
    """Flattens an example, then residual blocks, then the shape it came in.

    It knows nothing of neighbours: vectors, rows of a table, points. Time and conditions scale and shift every
    block, tokens as their mean weighed by a learned query; an image is flattened beside x.
    """

    def __init__(
        self, config: MLPConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is that of one example, the only one that the network then takes."""
        super().__init__(shape, conditions, config.width, inputs, outputs)
        size, width = math.prod(shape[1:]), config.width
        self.enter = Linear(self.channels_in * size, width)
        self.blocks = nn.ModuleList(MLPBlock(width, config.dropout) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.out = zeroed(Linear(width, self.channels_out * size))

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        """As in `Backbone`.

        Raises:
            ValueError: the examples have another size than it was built for.
        """
        space = tuple(h.shape[2:])
        if space != self.shape[1:]:
            raise ValueError(f"this MLP was built for examples of {self.shape} alone, given {(self.shape[0], *space)}")
        h = self.enter(h.flatten(1))
        for block in self.blocks:
            h = self.through(block, h, told.e)
        return self.out(F.silu(self.norm(h))).unflatten(1, (self.channels_out, *space))


class MLPBlock(nn.Module):
    """(B, E) and an embedding (B, E) -> (B, E).

        h' = h + Linear(dropout(SiLU(Linear(LN(h) * (1 + scale) + shift)))),  (scale, shift) = Linear(e)

    The residual MLP for tables of Gorishniy et al. (2021, section 3.2), modulated as in Peebles & Xie (2023). The
    last layer starts at 0, the block as the identity.
    """

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        """`width` is E."""
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = Linear(width, 2 * width)
        self.inner = Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.outer = zeroed(Linear(width, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` and `e` are (B, E)."""
        scale, shift = self.modulation(e).chunk(2, dim=1)
        inner = F.silu(self.inner(self.norm(h) * (1 + scale) + shift))
        out: Tensor = h + self.outer(self.dropout(inner))
        return out
