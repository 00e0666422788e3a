"""The layers that backbones are built of, for one, two or three axes of space or time alike.

Letters in shapes: B batch, C channels, E width, `...` one to three axes of space.
"""

from __future__ import annotations

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


def divided(channels: int, groups: int, width: int = 1) -> int:
    """The largest number of equal groups of `channels`, at most `groups`, of at least `width` channels each.

    >>> divided(128, 32, 4), divided(96, 32, 4), divided(96, 32), divided(2, 32, 4)
    (32, 24, 32, 1)
    """
    most = max(1, min(groups, channels // width))
    return next(n for n in range(most, 0, -1) if channels % n == 0)


class GroupNorm(nn.GroupNorm):
    """SiLU(GN(h) (1 + scale) + shift) in one pass (`reverie.nets.kernels.group_norm`), (B, C, ...) -> same."""

    def __init__(self, groups: int, channels: int, silu: bool = False, affine: bool = True, eps: float = 1e-5) -> None:
        """`silu`: whether the result goes through one; `affine`: whether a weight and a bias are learned."""
        super().__init__(groups, channels, eps, affine)
        self.silu = silu

    def forward(self, h: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        """`h` is (B, C, ...), the others (B, C) or None."""
        return kernels.group_norm(h, self.num_groups, self.weight, self.bias, self.eps, scale, shift, self.silu)


def zeroed(layer: Layer) -> Layer:
    """The layer with weights and bias 0, so that what it ends contributes nothing before training."""
    for p in layer.parameters(recurse=False):
        nn.init.zeros_(p)
    return layer
