"""Halving and doubling of the axes of space: by pairs, by a low-pass filter, by convolutions.

Letters in shapes: B batch, C channels, `...` one to three axes of space.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nets import kernels
from reverie.nets.layers import CONVOLUTIONS, conv

CONVOLVE: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Callable[..., Tensor]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Resampling:
    """How a U-Net goes from one resolution to the next, without weights.

    - plain: down by the mean of two neighbours, up by repeating each value (Dhariwal & Nichol, 2021);
    - `fir`: with the low-pass filter f = (1, 3, 3, 1) / 8 on each axis, zeros beyond the border
      (Zhang, 2019; Karras et al., 2020; Song et al., 2021):

          down: y_i = sum_k f_k x_{2 i + k - 1}
          up:   y_{2 i} = (x_{i-1} + 3 x_i) / 4,  y_{2 i + 1} = (3 x_i + x_{i+1}) / 4

    Both keep constants, but for what a filter sees of the zeros beyond the border.
    """

    factors: tuple[int, ...]
    """2 for each axis of space that is halved, 1 for the others."""
    fir: bool = False
    """Whether by the low-pass filter."""

    def down(self, h: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, .../2)."""
        if self.fir:
            return self._filtered(CONVOLVE, h, 1.0, stride=self.factors, padding=1)
        size = 1
        for axis, factor in enumerate(self.factors, start=2):
            if factor == 2:
                pairs, size = h.unflatten(axis, (-1, 2)), 2 * size
                h = pairs.select(axis + 1, 0) + pairs.select(axis + 1, 1)
        return h / size if size > 1 else h

    def up(self, h: Tensor) -> Tensor:
        """(B, C, ...) -> (B, C, 2 ...)."""
        if self.fir:
            return self._filtered(TRANSPOSED, h, 2.0, stride=self.factors, padding=1)
        return F.interpolate(h, scale_factor=tuple(float(f) for f in self.factors), mode="nearest")

    def blurred(self, h: Tensor) -> Tensor:
        """The filter at every position between two values, (B, C, N) -> (B, C, N + 1) on each halved axis."""
        return self._filtered(CONVOLVE, h, 1.0, stride=(1,) * len(self.factors), padding=2)

    def _filtered(
        self, by: dict[int, Callable[..., Tensor]], h: Tensor, gain: float, stride: tuple[int, ...], padding: int
    ) -> Tensor:
        """A convolution with the filter for each channel; in float32 on the CPU, where bfloat16 is 30 times slower."""
        rank, host = len(self.factors), h.device.type == "cpu"
        dtype = torch.float32 if host and h.dtype == torch.bfloat16 else h.dtype
        taps = gain * (0.5 - 0.25 * (torch.arange(4, device=h.device, dtype=dtype) - 1.5).abs())
        kernel = torch.ones((1,) * (rank + 2), device=h.device, dtype=dtype)
        for axis, factor in enumerate(self.factors, start=2):
            if factor == 2:
                kernel = kernel * taps.reshape([4 if a == axis else 1 for a in range(rank + 2)])
        kernel = kernel.expand(h.shape[1], *kernel.shape[1:])
        paddings = [padding if factor == 2 else 0 for factor in self.factors]
        with torch.autocast("cpu", enabled=False) if host else nullcontext():
            made = by[rank](h.to(dtype), kernel, stride=stride, padding=paddings, groups=h.shape[1])
        return made.to(h.dtype)


class Downsample(nn.Module):
    """(B, C, ...) -> (B, C', .../2): a convolution of stride 2 with a kernel of 3.

    Its zeros lie on both sides (Dhariwal & Nichol, 2021) or behind the last value alone (Ho et al.,
    2020); with a filter, it sees what the filter has made of the values (Song et al., 2021).
    """

    def __init__(
        self, resampling: Resampling, channels: int, out: int, zeros: Literal["around", "behind"] = "around"
    ) -> None:
        """`channels` is C, `out` C'; the sizes of the axes that are halved are even."""
        super().__init__()
        factors, rank = resampling.factors, len(resampling.factors)
        self.resampling, self.behind = resampling, zeros == "behind" and not resampling.fir
        padded = [0 if factor == 2 and (self.behind or resampling.fir) else 1 for factor in factors]
        self.conv = CONVOLUTIONS[rank](channels, out, 3, factors, tuple(padded))  # type: ignore[arg-type]

    def forward(self, h: Tensor, e: Tensor | None = None) -> Tensor:
        """`h` is (B, C, ...); `e` is not read."""
        if self.resampling.fir:
            h = self.resampling.blurred(h)
        elif self.behind:
            ends = [(0, factor - 1) for factor in reversed(self.resampling.factors)]
            h = F.pad(h, list(itertools.chain(*ends)))
        return self.conv(h)


class Upsample(nn.Module):
    """(B, C, ...) -> (B, C', 2 ...): each value repeated or filtered, then a convolution."""

    def __init__(self, resampling: Resampling, channels: int, out: int) -> None:
        """`channels` is C, `out` C'."""
        super().__init__()
        self.resampling = resampling
        self.conv = conv(len(resampling.factors), channels, out)

    def forward(self, h: Tensor, e: Tensor | None = None) -> Tensor:
        """`h` is (B, C, ...); `e` is not read."""
        if self.resampling.fir:
            return self.conv(self.resampling.up(h))
        return kernels.convolved_up(h, self.conv.weight, self.conv.bias, self.resampling.factors)
