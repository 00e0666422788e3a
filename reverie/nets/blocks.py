"""What U-Nets are built of.

Letters in shapes: B batch, C channels, `...` one to three axes of space, E width of the embedding.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nets.layers import Attention, GroupNorm, Linear, conv, zeroed


class SpatialAttention(nn.Module):
    """h + attention(norm(h)) over the positions of an image, (B, C, ...) -> same (Ho et al., 2020).

    The projection starts at 0, the block as the identity.
    """

    def __init__(self, channels: int, head_width: int) -> None:
        """`head_width` channels a head, or the nearest larger number that gives equal heads."""
        super().__init__()
        self.norm = GroupNorm(channels)
        self.attention = Attention(channels, math.gcd(channels, max(1, channels // head_width)))
        zeroed(self.attention.out)

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, C, ...)."""
        tokens = self.attention(self.norm(h).flatten(2).mT)
        return h + tokens.mT.unflatten(2, h.shape[2:])


class ResidualBlock(nn.Module):
    """(B, C, ...) and an embedding (B, E) -> (B, C', ...).

        h' = skip(h) + conv(SiLU(norm(conv(SiLU(norm(h)))) * (1 + scale) + shift))
        (scale, shift) = Linear(e)

    Ho et al., 2020; scale and shift: Dhariwal & Nichol, 2021, section 3.1. The last convolution
    starts at 0, the block as its skip.
    """

    def __init__(self, rank: int, channels: int, out: int, embedding: int, dropout: float = 0.0) -> None:
        """`channels` is C, `out` C', `embedding` E."""
        super().__init__()
        self.norm_in = GroupNorm(channels, silu=True)
        self.conv_in = conv(rank, channels, out)
        self.modulation = Linear(embedding, 2 * out)
        self.norm_out = GroupNorm(out, silu=True, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(conv(rank, out, out))
        self.skip = conv(rank, channels, out, 1) if channels != out else nn.Identity()

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, C, ...), `e` (B, E)."""
        scale, shift = self.modulation(e).chunk(2, dim=1)
        inner = self.norm_out(self.conv_in(self.norm_in(h)), scale, shift)
        out: Tensor = self.skip(h) + self.conv_out(self.dropout(inner))
        return out


class Downsample(nn.Module):
    """(B, C, ...) -> (B, C', .../2): a convolution of stride 2. The sizes are even."""

    def __init__(self, rank: int, channels: int, out: int) -> None:
        """`channels` is C, `out` C'."""
        super().__init__()
        self.conv = conv(rank, channels, out, stride=2)

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, C, ...)."""
        return self.conv(h)


class Upsample(nn.Module):
    """(B, C, ...) -> (B, C', 2 ...): nearest neighbour, then a convolution."""

    def __init__(self, rank: int, channels: int, out: int) -> None:
        """`channels` is C, `out` C'."""
        super().__init__()
        self.conv = conv(rank, channels, out)

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, C, ...)."""
        return self.conv(F.interpolate(h, scale_factor=2.0, mode="nearest"))
