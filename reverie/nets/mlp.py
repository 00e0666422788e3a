"""A residual multilayer perceptron, for examples of any shape.

Letters in shapes: B batch, D numbers of one example, E width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.nets.base import NetConfig, at_least_one
from reverie.nets.blocks import zeroed
from reverie.nets.embeddings import Conditioning


@dataclass(frozen=True)
class MLPConfig(NetConfig, kind="mlp"):
    """Settings of an `MLP`."""

    width: int = 256
    """E, even: hidden units and the embedding."""
    depth: int = 4
    """Residual blocks, of two layers each."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        at_least_one(self.kind, width=self.width, depth=self.depth)
        if self.width % 2:
            raise ValueError(f"width of net 'mlp' must be even, given {self.width}")

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Anything that holds a number."""
        return bool(shape) and math.prod(shape) >= 1

    def build(self, shape: tuple[int, ...], classes: int = 0, inputs: int = 1, outputs: int = 1) -> MLP:
        """An `MLP` for examples of any `shape`."""
        self.require(shape)
        return MLP(self, shape, classes, inputs, outputs)


class MLP(nn.Module):
    """Flattens an example, then residual blocks, then the shape it came in.

    It knows nothing of neighbours: vectors, rows of a table, points.
    """

    def __init__(
        self, config: MLPConfig, shape: tuple[int, ...], classes: int = 0, inputs: int = 1, outputs: int = 1
    ) -> None:
        """`shape` is that of one example, the only one that the network then takes."""
        super().__init__()
        size, width = math.prod(shape), config.width
        self.shape_out = (outputs * shape[0], *shape[1:])
        self.conditioning = Conditioning(width, classes)
        self.enter = nn.Linear(inputs * size, width)
        self.blocks = nn.ModuleList(MLPBlock(width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.out = zeroed(nn.Linear(width, outputs * size))

    def forward(self, x: Tensor, label: Tensor, cond: Cond | None = None) -> Tensor:
        """`x` is (B, inputs C, ...), `label` (B,); the result (B, outputs C, ...) in the dtype of `x`."""
        e = self.conditioning(label, cond)
        h = self.enter(x.reshape(x.shape[0], -1))
        for block in self.blocks:
            h = block(h, e)
        return self.out(F.silu(self.norm(h))).unflatten(1, self.shape_out).to(x.dtype)


class MLPBlock(nn.Module):
    """(B, E) and an embedding (B, E) -> (B, E).

        h' = h + Linear(SiLU(Linear(LN(h) * (1 + scale) + shift))),  (scale, shift) = Linear(e)

    The last layer starts at 0, the block as the identity.
    """

    def __init__(self, width: int) -> None:
        """`width` is E."""
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.inner = nn.Linear(width, width)
        self.outer = zeroed(nn.Linear(width, width))

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` and `e` are (B, E)."""
        scale, shift = self.modulation(e).chunk(2, dim=1)
        out: Tensor = h + self.outer(F.silu(self.inner(self.norm(h) * (1 + scale) + shift)))
        return out
