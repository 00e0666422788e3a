"""What U-Nets are built of.

Letters in shapes: B batch, C channels, L tokens, `...` one to three axes of space, E width of the embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from reverie.nets import kernels
from reverie.nets.attention import CrossAttention, SelfAttention
from reverie.nets.base import over
from reverie.nets.layers import GroupNorm, Linear, conv, divided, zeroed
from reverie.nets.resampling import Downsample, Resampling

HALF = 0.5**0.5


@dataclass(frozen=True)
class BlockStyle:
    """What all blocks of one U-Net have in common."""

    embedding: int
    """E."""
    resampling: Resampling
    """How those that halve or double do it; one factor for each axis of space."""
    dropout: float = 0.0
    """Inside residual blocks."""
    scale_shift: bool = True
    """Whether the embedding scales and shifts what the second norm gives, or is added before it."""
    rescale: bool = False
    """Whether sums of two are divided by sqrt(2)."""
    heads: int = 0
    """Of attention; 0: one for each `head_width` channels."""
    head_width: int = 32
    """Channels of an attention head."""
    tokens: bool = False
    """Whether attention is followed by attention to tokens, (B, L, E)."""
    groups: int = 32
    """At most so many in a norm."""
    group_width: int = 4
    """Of at least so many channels each."""
    eps: float = 1e-5
    """Added to variances in norms."""

    @property
    def rank(self) -> int:
        """How many axes of space there are."""
        return len(self.resampling.factors)

    def norm(self, channels: int, silu: bool = False, affine: bool = True) -> GroupNorm:
        """A group norm of the style."""
        return GroupNorm(divided(channels, self.groups, self.group_width), channels, silu, affine, self.eps)

    def heads_of(self, channels: int) -> int:
        """Heads for so many channels; where they do not divide them, the next smaller number that does."""
        return divided(channels, self.heads or channels // self.head_width)


class SpatialAttention(nn.Module):
    """h + attention(norm(h)) over the positions of an example, (B, C, ...) -> same (Ho et al., 2020).

    With tokens, h + attention(norm(h), tokens) follows (Rombach et al., 2022). The projections start
    at 0, the block as the identity (or 1/sqrt(2) of it for each sum that is rescaled).
    """

    def __init__(self, style: BlockStyle, channels: int) -> None:
        """`channels` is C."""
        super().__init__()
        heads = style.heads_of(channels)
        self.rescale = style.rescale
        self.norm = style.norm(channels)
        self.attention = SelfAttention(channels, heads)
        self.cross_norm = style.norm(channels) if style.tokens else None
        self.cross = CrossAttention(channels, heads, style.embedding) if style.tokens else None
        self.zero_last()

    def zero_last(self) -> None:
        """Set what ends the block to 0."""
        zeroed(self.attention.out)
        if self.cross is not None:
            zeroed(self.cross.out)

    def forward(self, h: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """`h` is (B, C, ...), `tokens` (B, L, E), `mask` (B, L) bool, True where one may be looked at."""
        size = h.shape[2:]
        h = joined(h, self.attention(self.norm(h).flatten(2).mT).mT.unflatten(2, size), self.rescale)
        if self.cross is not None and self.cross_norm is not None and tokens is not None:
            found = self.cross(self.cross_norm(h).flatten(2).mT, tokens, mask)
            h = joined(h, found.mT.unflatten(2, size), self.rescale)
        return h


def joined(a: Tensor, b: Tensor, rescale: bool) -> Tensor:
    """a + b, or (a + b) / sqrt(2), which keeps the variance of two that are independent (Song et al., 2021)."""
    return (a + b) * HALF if rescale else a + b


class ResidualBlock(nn.Module):
    """(B, C, ...) and an embedding (B, E) -> (B, C', ...), at the same resolution, half or twice of it.

        h' = skip(R h) + conv(dropout(SiLU(norm(conv(R SiLU(norm(h)))) (1 + scale) + shift)))
        (scale, shift) = Linear(e)

    (Dhariwal & Nichol, 2021, section 3.1, appendix A), R the resampling if there is one. Without scale
    and shift, SiLU(norm(conv(...) + Linear(e))) as in Ho et al., 2020. The last convolution starts at
    0, the block as its skip, everything else as torch initialises it.

    Under scale and shift the second norm has no weight w and bias b of its own: a Linear says the same,
    w (1 + scale) - 1 for the scale and b (1 + scale) + shift for the shift.
    """

    def __init__(
        self,
        style: BlockStyle,
        channels: int,
        out: int,
        resample: Literal["none", "down", "up"] = "none",
        projected: bool = False,
    ) -> None:
        """`channels` is C, `out` C'; `projected`: whether the skip is a convolution even where C is C'."""
        super().__init__()
        self.style, self.resample = style, resample
        self.norm_in = style.norm(channels, silu=True)
        self.conv_in = conv(style.rank, channels, out)
        self.modulation = Linear(style.embedding, 2 * out if style.scale_shift else out)
        self.norm_out = style.norm(out, silu=True, affine=not style.scale_shift)
        self.dropout = nn.Dropout(style.dropout)
        self.conv_out = conv(style.rank, out, out)
        self.skip = conv(style.rank, channels, out, 1) if projected or channels != out else nn.Identity()
        self.zero_last()

    def zero_last(self) -> None:
        """Set what ends the block to 0."""
        zeroed(self.conv_out)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        """`h` is (B, C, ...), `e` (B, E)."""
        inner = self._entered(self.norm_in(h))
        told = self.modulation(e)
        if self.style.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            inner = self.norm_out(inner, scale, shift)
        else:
            inner = self.norm_out(inner + over(told, inner))
        return joined(self._skipped(h), self.conv_out(self.dropout(inner)), self.style.rescale)

    def _entered(self, inner: Tensor) -> Tensor:
        """The first convolution, of the resampled input."""
        by = self.style.resampling
        if self.resample == "up" and not by.fir:
            return kernels.convolved_up(inner, self.conv_in.weight, self.conv_in.bias, by.factors)
        return self.conv_in(resampled(by, inner, self.resample))

    def _skipped(self, h: Tensor) -> Tensor:
        """The resampled input by the way past the convolutions."""
        by = self.style.resampling
        if self.resample == "up" and not by.fir:  # repeating and a kernel of 1 change places
            return by.up(self.skip(h))
        skipped: Tensor = self.skip(resampled(by, h, self.resample))
        return skipped


def resampled(by: Resampling, h: Tensor, way: str) -> Tensor:
    """`h` brought `down` or `up`, or with `none` as it is."""
    return by.down(h) if way == "down" else by.up(h) if way == "up" else h


class Stage(nn.Module):
    """A residual block, of the input and what is kept of the way down, then attention where there is any."""

    def __init__(self, style: BlockStyle, channels: int, out: int, attention: bool = False) -> None:
        """`channels` come in, those of the skip connection counted, and `out` go out."""
        super().__init__()
        self.block = ResidualBlock(style, channels, out)
        self.attention = SpatialAttention(style, out) if attention else None

    def forward(
        self, h: Tensor, skip: Tensor | None, e: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`h` and `skip` are (B, C, ...), `e` (B, E), `tokens` (B, L, E), `mask` (B, L) bool."""
        h = self.block(h if skip is None else torch.cat([h, skip], dim=1), e)
        return h if self.attention is None else self.attention(h, tokens, mask)


class InputPyramid(nn.Module):
    """The input at a lower resolution, told to the network there (Song et al., 2021, appendix H.2).

    - skip: p' = down(p), h' = h + conv(p') with a kernel of 1;
    - residual: h' = p' = h + conv(down(p)), over sqrt(2) if sums are rescaled.
    """

    def __init__(self, style: BlockStyle, kind: Literal["skip", "residual"], pyramid: int, channels: int) -> None:
        """`pyramid` channels of p, `channels` of h."""
        super().__init__()
        self.style, self.kind = style, kind
        self.enter: nn.Module
        if kind == "skip":
            self.enter = conv(style.rank, pyramid, channels, 1)
        else:
            self.enter = Downsample(style.resampling, pyramid, channels)

    def forward(self, pyramid: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """`pyramid` is (B, C', 2 ...), `h` (B, C, ...): the pyramid there, and h told of it."""
        if self.kind == "skip":
            pyramid = self.style.resampling.down(pyramid)
            return pyramid, h + self.enter(pyramid)
        h = joined(self.enter(pyramid), h, self.style.rescale)
        return h, h


class OutputPyramid(nn.Module):
    """up(p) + conv(SiLU(norm(h))), the output as it is known at one resolution (Song et al., 2021, appendix H.2)."""

    def __init__(self, style: BlockStyle, channels: int, out: int) -> None:
        """`channels` of h, `out` of p; the convolution starts at 0."""
        super().__init__()
        self.resampling = style.resampling
        self.norm = style.norm(channels, silu=True)
        self.out = conv(style.rank, channels, out)
        self.zero_last()

    def zero_last(self) -> None:
        """Set what ends the block to 0."""
        zeroed(self.out)

    def forward(self, h: Tensor, pyramid: Tensor | None) -> Tensor:
        """`h` is (B, C, ...), `pyramid` (B, C', .../2) or None at the lowest resolution."""
        made: Tensor = self.out(self.norm(h))
        return made if pyramid is None else made + self.resampling.up(pyramid)


def glorot_(net: nn.Module) -> None:
    """Weights of convolutions and linears uniform with variance 2 / (inputs + outputs), biases 0.

    (Glorot & Bengio, 2010; as Ho et al., 2020, and Song et al., 2021, have it.) Queries, keys and values
    count as layers of their own; what ends a block starts at 0 nonetheless.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            for part in module.weight.chunk({"qkv": 3, "kv": 2}.get(name.rpartition(".")[2], 1)):
                nn.init.xavier_uniform_(part)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, SpatialAttention | ResidualBlock | OutputPyramid):
            module.zero_last()
