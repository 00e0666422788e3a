"""The layers that backbones are built of, for one, two or three axes of space or time alike.

Letters in shapes: B batch, C channels, L tokens, E width, `...` one to three axes of space.
"""

from __future__ import annotations

import math
from typing import TypeVar

from torch import Tensor, nn

from reverie.nets import kernels

CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}


class _Pointwise:
    """What convolutions with a kernel and a stride of 1 are computed by (`reverie.nets.kernels.pointwise`)."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, C, ...)."""
        return kernels.pointwise(h, self.weight.flatten(1), self.bias)


class Pointwise1d(_Pointwise, nn.Conv1d):
    """A convolution over one axis with a kernel of 1."""


class Pointwise2d(_Pointwise, nn.Conv2d):
    """A convolution over two axes with a kernel of 1."""


class Pointwise3d(_Pointwise, nn.Conv3d):
    """A convolution over three axes with a kernel of 1."""


POINTWISE: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: Pointwise1d,
    2: Pointwise2d,
    3: Pointwise3d,
}

Layer = TypeVar("Layer", bound=nn.Module)


class Linear(nn.Linear):
    """x W^T + b, by the fastest way there is (`reverie.nets.kernels`)."""

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (..., E)."""
        return kernels.linear(x, self.weight, self.bias)


def conv(
    rank: int,
    channels: int,
    out: int,
    kernel: int = 3,
    stride: int = 1,
    bias: bool = True,
    dilation: int = 1,
) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """A convolution over `rank` axes that keeps their sizes at stride 1; `kernel` is odd."""
    padding = dilation * (kernel // 2)
    if kernel == stride == 1:
        return POINTWISE[rank](channels, out, 1, bias=bias)
    return CONVOLUTIONS[rank](channels, out, kernel, stride, padding, dilation=dilation, bias=bias)


def groups(channels: int) -> int:
    """How many groups to normalise `channels` in: a divisor, at most 32, of at least 4 channels each.

    Groups of one channel would remove each channel's mean, and with it what the embedding and the
    biases before the norm say (Karras et al., 2022, keep at least 4 as well).

    >>> groups(128), groups(32), groups(48), groups(3)
    (32, 8, 4, 1)
    """
    return math.gcd(32, channels, max(1, channels // 4))


class GroupNorm(nn.GroupNorm):
    """SiLU(GN(h) (1 + scale) + shift) in one pass (`reverie.nets.kernels.group_norm`), (B, C, ...) -> same."""

    def __init__(self, channels: int, silu: bool = False, affine: bool = True, eps: float = 1e-5) -> None:
        """`silu`: whether the result goes through one; `affine`: whether a weight and a bias are learned."""
        super().__init__(groups(channels), channels, eps, affine)
        self.silu = silu

    def forward(self, h: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """`h` is (B, C, ...), the others (B, C) or None."""
        return kernels.group_norm(h, self.num_groups, self.weight, self.bias, self.eps, scale, shift, self.silu)


def zeroed(layer: Layer) -> Layer:
    """The layer with weights and bias 0, so that what it ends contributes nothing before training."""
    for p in layer.parameters(recurse=False):
        nn.init.zeros_(p)
    return layer


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to others, (B, L, E) -> same (Vaswani et al., 2017)."""

    def __init__(self, width: int, heads: int, context: int = 0) -> None:
        """`heads` divides `width`, which is E; `context` is the width of other tokens, 0: to themselves."""
        super().__init__()
        self.heads = heads
        if context:
            self.q, self.kv = Linear(width, width), Linear(context, 2 * width)
        else:
            self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, h: Tensor, tokens: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """`h` is (B, L, E), `tokens` (B, L', context), `mask` (B, L') bool, True where one may be looked at."""
        q, k, v = self.heads_of(h, tokens)
        return self.out(kernels.attention(q, k, v, mask).transpose(1, 2).flatten(2))

    def heads_of(self, h: Tensor, tokens: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (B, heads, L, head width)."""
        if tokens is None:
            q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            return q, k, v
        q = self.q(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.kv(tokens).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return q, k, v
