"""Layers and blocks that keep the magnitude of what goes through them (Karras et al., 2024, EDM2).

The magnitude of a tensor is the root of the mean of its squares. Weights have a fixed one, so that the
size of a step of the optimizer means the same throughout a training; nothing has a bias, no norm
with weights is needed, and the network's first output is 0 by one gain. What embeds time and conditions
is that of all backbones, brought to magnitude 1 at its end.

Letters in shapes: B batch, C channels, L tokens, `...` one to three axes of space, E width of the embedding.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nets import kernels
from reverie.nets.base import over
from reverie.nets.blocks import BlockStyle, resampled
from reverie.nets.resampling import CONVOLVE

TINY = 1e-8
"""Added to squares, so that 0 has a derivative, or their least value."""
NEAR = 8
"""Units of rounding by which a magnitude that is 1 may be off."""
BALANCE = 0.3
"""Of what a block adds, against what goes past it."""


def unit(x: Tensor, axis: int = 1) -> Tensor:
    """x / sqrt(mean over an axis of x^2): over the channels, (B, C, ...), the pixel norm (Karras et al., 2018)."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * (wide.square().mean(axis, keepdim=True) + TINY).rsqrt()).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU(x) / 0.596, of magnitude 1 for standard normal x (Karras et al., 2024, equation 81)."""
    return F.silu(x) / 0.5964692  # the root of E SiLU(x)^2


def mp_sum(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """((1 - t) a + t b) / sqrt((1 - t)^2 + t^2), of magnitude 1 for independent a and b (equation 88)."""
    return a.lerp(b, t) * ((1 - t) ** 2 + t**2) ** -0.5


def mp_cat(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """a and b, (B, C, ...) and (B, C', ...), stacked along the channels with shares 1 - t and t (equation 103).

    Each share is what the part adds to the next layer's result, however many channels it has; the
    magnitude of the whole is 1.
    """
    n, m = a.shape[1], b.shape[1]
    gain = ((n + m) / ((1 - t) ** 2 + t**2)) ** 0.5
    return torch.cat([a * (gain * (1 - t) / n**0.5), b * (gain * t / m**0.5)], dim=1)


class MPLayer(nn.Module):
    """A weight whose every output has unit magnitude: W / |W|, row by row (Karras et al., 2024, section 2.3).

    The loss then does not depend on |W|, its gradient is orthogonal to W, and steps make W grow; so in
    training each step first sets |W| back to its initial value, sqrt(inputs) (`forced`). Weights start
    standard normal.
    """

    def __init__(self, *shape: int) -> None:
        """`shape` is that of the weight, outputs first."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape))

    def unit_weight(self) -> Tensor:
        """W / |W|."""
        w = self.weight
        squares = w.flatten(1).square().sum(1) + TINY
        return w * squares.rsqrt().reshape(-1, *(1,) * (w.ndim - 1))

    def force(self) -> None:
        """Set |W| back; rows that are there but for rounding stay as they are, so that twice is once.

        By `data`, for inductor drops what is written to a parameter itself; and the graph of an earlier pass
        may hold W, to whose gradient a change by rounding is none. Versions of tensors do not tell whether
        there is anything to do: fused optimizers leave them.
        """
        w = self.weight.data
        size = w.flatten(1).square().mean(1).clamp_min(TINY).rsqrt()
        size = torch.where((size - 1).abs() < NEAR * torch.finfo(w.dtype).eps, 1.0, size)
        w.copy_(w * size.reshape(-1, *(1,) * (w.ndim - 1)))


def forced(net: nn.Module) -> None:
    """Set |W| back in every layer of `net` that keeps magnitude."""
    for layer in net.modules():
        if isinstance(layer, MPLayer):
            layer.force()


def may_be_forced(net: nn.Module) -> bool:
    """Whether a forward pass of `net` may set its weights back: in training, and where nothing forbids it.

    Not without gradients, and not inside transforms of `torch.func`, in which no parameter may be written
    to. It is done before the first layer, for blocks whose inside is computed again write to nothing.
    """
    return net.training and torch.is_grad_enabled() and torch._C._functorch.maybe_current_level() is None


class MPLinear(MPLayer):
    """x W^T / |W|, (..., E) -> (..., E')."""

    def __init__(self, width: int, out: int) -> None:
        """`width` is E, `out` E'."""
        super().__init__(out, width)

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (..., E)."""
        return kernels.linear(x, self.unit_weight(), None)


class MPConv(MPLayer):
    """A convolution with W / |W| that keeps sizes, (B, C, ...) -> (B, C', ...), or doubles them."""

    def __init__(self, rank: int, channels: int, out: int, kernel: int = 3) -> None:
        """`channels` is C, `out` C', `kernel` odd."""
        super().__init__(out, channels, *(kernel,) * rank)
        self.padding = kernel // 2

    def forward(self, h: Tensor, doubled: tuple[int, ...] | None = None) -> Tensor:
        """`h` is (B, C, ...); `doubled`: 2 for each axis whose values are repeated before, 1 for the others."""
        if doubled is not None:
            return kernels.convolved_up(h, self.unit_weight(), None, doubled)
        return CONVOLVE[h.ndim - 2](h, self.unit_weight(), padding=self.padding)


class MPAttention(nn.Module):
    """Attention with queries, keys and values of unit magnitude, mixed in by `mp_sum`, (B, C, ...) -> same.

    (Karras et al., 2024, appendix B.3.) To the positions themselves, then, with tokens, to those.
    """

    def __init__(self, style: BlockStyle, channels: int) -> None:
        """`channels` is C."""
        super().__init__()
        self.heads = style.heads_of(channels)
        self.qkv, self.out = MPLinear(channels, 3 * channels), MPLinear(channels, channels)
        self.cross = MPLinear(channels, channels) if style.tokens else None
        self.cross_kv = MPLinear(style.embedding, 2 * channels) if style.tokens else None
        self.cross_out = MPLinear(channels, channels) if style.tokens else None

    def forward(self, h: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """`h` is (B, C, ...), `tokens` (B, L, E), `mask` (B, L) bool, True where one may be looked at."""
        size = h.shape[2:]
        q, k, v = self._parts(self.qkv(h.flatten(2).mT), 3)
        h = mp_sum(h, self.out(_attended(q, k, v)).mT.unflatten(2, size), BALANCE)
        if self.cross is not None and self.cross_kv is not None and self.cross_out is not None and tokens is not None:
            (q,), (k, v) = self._parts(self.cross(h.flatten(2).mT), 1), self._parts(self.cross_kv(unit(tokens, -1)), 2)
            h = mp_sum(h, self.cross_out(_attended(q, k, v, mask)).mT.unflatten(2, size), BALANCE)
        return h

    def _parts(self, x: Tensor, n: int) -> tuple[Tensor, ...]:
        """(B, L, n C) as n of (B, heads, L, head width), every head of every position of unit magnitude."""
        return unit(x.unflatten(-1, (n, self.heads, -1)), -1).permute(2, 0, 3, 1, 4).unbind()


def _attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, L, C)."""
    return kernels.attention(q, k, v, mask).transpose(1, 2).flatten(2)


class MPBlock(nn.Module):
    """A residual block and attention that keep magnitude, (B, C, ...) -> (B, C', ...) (Karras et al., 2024, figure 21).

        y = conv(dropout(mp_silu(conv(mp_silu(x)) (gain Linear(e) + 1))))
        h' = attention(mp_sum(x, y, 0.3))

    On the way down x is the resampled input at C' channels under a pixel norm, else the resampled
    input (at C' channels past the convolutions). The gain starts at 0. Values are not clipped.
    """

    def __init__(
        self,
        style: BlockStyle,
        channels: int,
        out: int,
        attention: bool = False,
        resample: Literal["none", "down", "up"] = "none",
        descending: bool = False,
    ) -> None:
        """`channels` is C, those of a skip connection counted; `out` C'; `descending`: on the way down."""
        super().__init__()
        self.style, self.resample, self.descending = style, resample, descending
        self.conv_in = MPConv(style.rank, out if descending else channels, out)
        self.modulation = MPLinear(style.embedding, out)
        self.gain = nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(style.dropout)
        self.conv_out = MPConv(style.rank, out, out)
        self.skip = MPConv(style.rank, channels, out, 1) if channels != out else None
        self.attention = MPAttention(style, out) if attention else None

    def forward(
        self, h: Tensor, skip: Tensor | None, e: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`h` and `skip` are (B, C, ...), `e` (B, E), `tokens` (B, L, E), `mask` (B, L) bool."""
        h = h if skip is None else mp_cat(h, skip)
        if self.resample == "up" and not self.style.resampling.fir:
            inner = self.conv_in(mp_silu(h), self.style.resampling.factors)
            h = self.style.resampling.up(h)
        else:
            h = resampled(self.style.resampling, h, self.resample)
            if self.descending:
                h = unit(h if self.skip is None else self.skip(h))
            inner = self.conv_in(mp_silu(h))
        told = self.modulation(e) * self.gain + 1
        inner = self.conv_out(self.dropout(mp_silu(inner * over(told, inner))))
        past = h if self.descending or self.skip is None else self.skip(h)
        h = mp_sum(past, inner, BALANCE)
        return h if self.attention is None else self.attention(h, tokens, mask)
