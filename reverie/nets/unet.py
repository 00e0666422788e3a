"""U-Net: residual blocks at several resolutions, joined across by skip connections.

Letters in shapes: B batch, C channels, H height, W width of an image, E width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from reverie.conditioning import Conditions
from reverie.nets.base import NOTHING, Backbone, NetConfig, a_fraction, at_least_one, spatial
from reverie.nets.blocks import Downsample, ResidualBlock, SpatialAttention, Upsample
from reverie.nets.embeddings import Embedded
from reverie.nets.layers import GroupNorm, conv, zeroed


@dataclass(frozen=True)
class UNetConfig(NetConfig, kind="unet"):
    """Settings of a `UNet` (Ho et al., 2020; Dhariwal & Nichol, 2021)."""

    width: int = 64
    """Channels at full resolution, even; the embedding has four times as many."""
    multipliers: tuple[int, ...] = (1, 2, 2)
    """Channels of each level, in units of `width`; a level has half the resolution of the one before."""
    blocks: int = 2
    """Residual blocks a level on the way down; one more on the way up."""
    attention: int = 16
    """Levels whose longer side has at most this many pixels use self-attention; 0: the middle alone."""
    head_width: int = 32
    """Channels of an attention head."""
    dropout: float = 0.0
    """Inside residual blocks."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        at_least_one(self.kind, width=self.width, blocks=self.blocks, head_width=self.head_width)
        a_fraction(self.kind, self.dropout)
        if self.attention < 0:
            raise ValueError(f"attention of net 'unet' must be a side in pixels or 0, given {self.attention}")
        if not self.multipliers:
            raise ValueError("multipliers of net 'unet' need at least one level, such as (1, 2, 2)")
        at_least_one(self.kind, multipliers=min(self.multipliers))

    @classmethod
    def fits(cls, shape: tuple[int, ...]) -> bool:
        """Anything with one to three axes of space."""
        return spatial(shape)

    def build(
        self, shape: tuple[int, ...], conditions: Conditions = NOTHING, inputs: int = 1, outputs: int = 1
    ) -> UNet:
        """A `UNet` for examples of `shape` (C, ...)."""
        self.require(shape)
        return UNet(self, shape, conditions, inputs, outputs)


class UNet(Backbone):
    """A U-Net of wide residual blocks with group norm, and self-attention where the image is small.

    Down: a convolution into each level, halving but for the first, then residual blocks. Middle:
    block, attention, block. Up: the levels in reverse, each block taking one of the way down's
    results beside its input. The time label and the class reach every block as scale and shift.

    Images of any size: zeros are put below and to the right up to a multiple of
    2^(levels - 1), and what was computed there is cut off.
    """

    def __init__(
        self, config: UNetConfig, shape: tuple[int, ...], conditions: Conditions, inputs: int, outputs: int
    ) -> None:
        """`shape` is (C, ...); of its axes of space only the levels with attention depend."""
        widths = [config.width * m for m in config.multipliers]
        embedding = 4 * config.width
        super().__init__(shape, conditions, embedding, inputs, outputs, multiple=2 ** (len(widths) - 1))
        rank, multiple = self.rank, 2 ** (len(widths) - 1)
        longer = max(shape[1:]) + -max(shape[1:]) % multiple

        def level(width: int, entering: list[int], depth: int) -> nn.ModuleList:
            head_width = config.head_width if longer // 2**depth <= config.attention else 0
            return nn.ModuleList(Stage(rank, n, width, embedding, config.dropout, head_width) for n in entering)

        self.down_in = nn.ModuleList([conv(rank, self.channels_in, widths[0])])
        self.down_in.extend(Downsample(rank, a, b) for a, b in pairwise(widths))
        self.down = nn.ModuleList(level(w, [w] * config.blocks, i) for i, w in enumerate(widths))
        self.middle_in = Stage(rank, widths[-1], widths[-1], embedding, config.dropout, config.head_width)
        self.middle_out = Stage(rank, widths[-1], widths[-1], embedding, config.dropout)
        self.up = nn.ModuleList(level(w, [2 * w] * (config.blocks + 1), i) for i, w in enumerate(widths))
        self.up_out = nn.ModuleList([nn.Identity()])
        self.up_out.extend(Upsample(rank, b, a) for a, b in pairwise(widths))
        self.norm = GroupNorm(widths[0], silu=True)
        self.out = zeroed(conv(rank, widths[0], self.channels_out))

    def body(self, h: Tensor, told: Embedded) -> Tensor:
        skips = []
        for enter, blocks in zip(self.down_in, self.down, strict=True):
            h = enter(h)
            skips.append(h)
            for block in blocks:  # type: ignore[attr-defined]
                h = self.through(block, h, told.e)
                skips.append(h)
        h = self.middle_out(self.middle_in(h, told.e), told.e)
        for leave, blocks in zip(reversed(self.up_out), reversed(self.up), strict=True):
            for block in blocks:  # type: ignore[attr-defined]
                h = self.through(block, torch.cat([h, skips.pop()], dim=1), told.e)
            h = leave(h)
        return self.out(self.norm(h))


class Stage(nn.Module):
    """A residual block, then self-attention if `head_width` is not 0."""

    def __init__(self, rank: int, channels: int, out: int, embedding: int, dropout: float, head_width: int = 0) -> None:
        """Axes of space, channels in and out, the embedding's width E, and the width of an attention head."""
        super().__init__()
        self.block = ResidualBlock(rank, channels, out, embedding, dropout)
        self.attention = SpatialAttention(out, head_width) if head_width else nn.Identity()

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, C, H, W), `e` (B, E)."""
        out: Tensor = self.attention(self.block(h, e))
        return out
