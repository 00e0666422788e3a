"""What backbones are built of.

Letters in shapes: B batch, C channels, H height, W width of an image, L tokens,
E width of a token or an embedding.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def zeroed(layer: Layer) -> Layer:
    """The layer with weights and bias 0, so that what it ends contributes nothing before training."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def padded(x: Tensor, multiple: int) -> Tensor:
    """`x`, (B, C, H, W), with zeros below and to the right up to multiples of `multiple`."""
    below, beside = -x.shape[-2] % multiple, -x.shape[-1] % multiple
    return F.pad(x, (0, beside, 0, below)) if below or beside else x


def groups(channels: int) -> int:
    """How many groups to normalise `channels` in: a divisor, at most 32, of at least 4 channels each.

    Groups of one channel would remove each channel's mean, and with it what the embedding and the
    biases before the norm say (Karras et al., 2022, keep at least 4 as well).

    >>> groups(128), groups(32), groups(48), groups(3)
    (32, 8, 4, 1)
    """
    return math.gcd(32, channels, max(1, channels // 4))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(width)) v over (B, heads, L, head width) (Vaswani et al., 2017, equation 1).

    The fused kernels have no forward-mode derivative; under `torch.func.jvp` the formula is spelt out.
    """
    if forward_ad.unpack_dual(q).tangent is None:
        return F.scaled_dot_product_attention(q, k, v)
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1) @ v


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens, (B, L, E) -> (B, L, E) (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        """`heads` divides `width`, which is E."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, L, E)."""
        qkv = self.qkv(h).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return self.out(attend(q, k, v).transpose(1, 2).flatten(2))


class ImageAttention(nn.Module):
    """h + attention(norm(h)) over the positions of an image, (B, C, H, W) -> same (Ho et al., 2020).

    The projection starts at 0, the block as the identity.
    """

    def __init__(self, channels: int, head_width: int) -> None:
        """`head_width` channels a head, or the nearest larger number that gives equal heads."""
        super().__init__()
        self.norm = nn.GroupNorm(groups(channels), channels)
        self.attention = SelfAttention(channels, math.gcd(channels, max(1, channels // head_width)))
        zeroed(self.attention.out)

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, C, H, W)."""
        tokens = self.attention(self.norm(h).flatten(2).mT)
        return h + tokens.mT.unflatten(2, h.shape[2:])


class ResidualBlock(nn.Module):
    """(B, C, H, W) and an embedding (B, E) -> (B, C', H, W).

        h' = skip(h) + conv(SiLU(norm(conv(SiLU(norm(h)))) * (1 + scale) + shift))
        (scale, shift) = Linear(e)

    Ho et al., 2020; scale and shift: Dhariwal & Nichol, 2021, section 3.1. The last convolution
    starts at 0, the block as its skip.
    """

    def __init__(self, channels: int, out: int, embedding: int, dropout: float = 0.0) -> None:
        """`channels` is C, `out` C', `embedding` E."""
        super().__init__()
        self.norm_in = nn.GroupNorm(groups(channels), channels)
        self.conv_in = nn.Conv2d(channels, out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * out)
        self.norm_out = nn.GroupNorm(groups(out), out, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(out, out, 3, padding=1))
        self.skip = nn.Conv2d(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, C, H, W), `e` (B, E)."""
        scale, shift = self.modulation(e)[..., None, None].chunk(2, dim=1)
        inner = self.conv_in(F.silu(self.norm_in(h)))
        inner = F.silu(self.norm_out(inner) * (1 + scale) + shift)
        out: Tensor = self.skip(h) + self.conv_out(self.dropout(inner))
        return out


class Downsample(nn.Conv2d):
    """(B, C, H, W) -> (B, C', H/2, W/2): a convolution of stride 2. H and W are even."""

    def __init__(self, channels: int, out: int) -> None:
        """`channels` is C, `out` C'."""
        super().__init__(channels, out, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """(B, C, H, W) -> (B, C', 2H, 2W): nearest neighbour, then a convolution."""

    def __init__(self, channels: int, out: int) -> None:
        """`channels` is C, `out` C'."""
        super().__init__(channels, out, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, C, H, W)."""
        return super().forward(F.interpolate(h, scale_factor=2.0, mode="nearest"))


def modulate(h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """h * (1 + scale) + shift for `h` (B, L, E) and the others (B, E)."""
    return h * (1 + scale[:, None]) + shift[:, None]
