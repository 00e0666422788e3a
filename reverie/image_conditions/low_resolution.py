"""Examples with fewer pixels, for super-resolution.

Letters in shapes: B batch, C channels, ... one to three axes of space (H and W of images), B and C aside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.image_conditions.base import ImageCondition, Shown
from reverie.tensors import right, sent

MEANS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""By the number of axes of space."""
BLURRED = 0.5
"""The share of the examples that are blurred."""


@dataclass(frozen=True)
class LowResolution(ImageCondition, kind="low_resolution"):
    """Means of squares of `factor` pixels, brought back to full size by bilinear interpolation; C channels.

    What SR3 is told (Saharia et al., 2021, section 2.3), with means in place of their bicubic filter. Arrays of one
    axis of space and of three, (C, L) and (C, F, H, W), are told of in the same way.

    So that a model made for data bears the faults of what another model samples, the small picture is spoilt in
    training (conditioning augmentation: Ho et al., 2022, section 4). With `noise` it is, before it is enlarged,

        cos(π s / 2) small + sin(π s / 2) ε,  ε normal, s uniform in [0, noise],

    and s is told as its level; with `blur`, half of the examples are first blurred by a Gaussian whose standard
    deviation is uniform in [0, blur].

    Attributes:
        factor: how many pixels of a side are one.
        noise: the largest level, in [0, 1], at which nothing is left of the picture; at 0 no level is told.
        blur: the largest standard deviation, in pixels of the small picture.

    Raises:
        ValueError: a factor below 2, or sides that it does not divide; a noise or a blur out of range.
    """

    pixels: ClassVar[bool] = False
    kept: ClassVar[bool] = True

    factor: int = 4
    noise: float = 0.0
    blur: float = 0.0

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"low_resolution needs a factor of at least 2; given {self.factor}")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"low_resolution needs a noise in [0, 1], the largest level of it; given {self.noise}")
        if not 0 <= self.blur < math.inf:
            raise ValueError(f"low_resolution needs a blur of at least 0 pixels; given {self.blur}")

    @property
    def levels(self) -> bool:
        return self.noise > 0

    def channels(self, shape: Sequence[int]) -> int:
        c, sides = shape[0], shape[1:]
        if len(sides) not in MEANS:
            raise ValueError(
                "the image condition 'low_resolution' is made of images (C, H, W), or of arrays with a channel and one "
                f"or three axes of space; given examples {tuple(shape)}"
            )
        if any(side % self.factor for side in sides):
            given = "x".join(map(str, sides))
            raise ValueError(f"low_resolution of factor {self.factor} needs sides that it divides; given {given}")
        return c

    def of(self, x0: Tensor, draw: torch.Generator) -> Shown:
        small = self.small(x0)
        if not (self.noise or self.blur):
            return Shown(self.enlarged(small))
        chosen, std, level = torch.rand(3, len(small), generator=draw)
        if self.blur:
            small = _blurred(small, torch.where(chosen < BLURRED, self.blur * std, 0.0), math.ceil(3 * self.blur))
        if not self.noise:
            return Shown(self.enlarged(small))
        eps = torch.randn(small.shape, generator=draw)
        return self._noised(small, sent(self.noise * level, small), sent(eps, small))

    def given(self, picture: Tensor, mask: Tensor | None = None) -> Shown:
        self.refuse(mask)
        return self.told(self.small(picture), 0.0, None)

    def small(self, x0: Tensor) -> Tensor:
        """The means (B, C, ... / factor) of x0 (B, C, ...).

        Raises:
            ValueError: as for `channels`.
        """
        self.channels(x0.shape[1:])
        return MEANS[x0.ndim - 2](x0, self.factor)

    def enlarged(self, small: Tensor) -> Tensor:
        """What is told of a picture (B, C, ... / factor) that is small to begin with."""
        return F.interpolate(small, scale_factor=self.factor, mode=LINEAR[small.ndim - 2], align_corners=False)

    def told(self, small: Tensor, level: float | Tensor, eps: Tensor | None) -> Shown:
        """A small picture, noised as in training and enlarged: what the second stage of a cascade is told.

        Args:
            small: (B, C, ... / factor), in the model's space.
            level: s, one number or (B,).
            eps: normal noise of the shape of `small`; None at level 0.

        Raises:
            ValueError: a level below 0 or above `noise`, or one above 0 without noise.
        """
        s = torch.as_tensor(level, dtype=small.dtype, device=small.device).expand(len(small))
        self._check(s)
        if eps is not None:
            return self._noised(small, s, eps)
        if bool((s > 0).any()):
            raise ValueError(f"a small picture at a level above 0 needs its noise; given {level} and none")
        return self._shown(small, s)

    def truncated(self, x: Tensor, alpha: float, sigma: float) -> Shown:
        """A small x_t of which the first stage left some noise, enlarged (truncated conditioning).

        x / sqrt(alpha^2 + sigma^2) is cos(π s / 2) x0 + sin(π s / 2) eps for the level s with
        tan(π s / 2) = sigma / alpha, so that no noise needs to be added (Ho et al., 2022, section 4.2).

        Args:
            x: (B, C, ... / factor), alpha x0 + sigma eps, x0 in the model's space.
            alpha: of the first stage's process, where it was stopped; at least 0.
            sigma: likewise.

        Raises:
            ValueError: a level above `noise`.
        """
        s = torch.full((len(x),), 2 / math.pi * math.atan2(sigma, alpha), dtype=x.dtype, device=x.device)
        self._check(s)
        return self._shown(x / math.hypot(alpha, sigma), s)

    def _noised(self, small: Tensor, s: Tensor, eps: Tensor) -> Shown:
        angle = math.pi / 2 * s
        return self._shown(right(angle.cos(), small) * small + right(angle.sin(), small) * eps, s)

    def _shown(self, noised: Tensor, s: Tensor) -> Shown:
        return Shown(self.enlarged(noised), s if self.levels else None)

    def _check(self, s: Tensor) -> None:
        """Refuse levels (B,) that were not in training; what rounding adds to `noise` is let pass."""
        low, high = float(s.min()), float(s.max())
        if not (low >= 0 and high <= self.noise + 1e-6):
            wanted = f"at least 0 and at most noise={self.noise:g}" if self.noise else "0, for its noise is 0"
            given = f"{high if low >= 0 else low:.4g}"
            raise ValueError(f"low_resolution is told levels of training alone, {wanted}; given {given}")


def _blurred(x: Tensor, std: Tensor, reach: int) -> Tensor:
    """x (B, C, ...) under a Gaussian along all axes of space, each example under its own.

    Pixels beyond the border repeat those on it.

    Args:
        x: the examples.
        std: (B,), in pixels; 0 leaves an example as it is.
        reach: pixels on either side that have a weight.
    """
    steps = torch.arange(-reach, reach + 1)
    weights = (-(steps / std.clamp_min(1e-6)[:, None]).square() / 2).softmax(1).unbind(1)
    for axis in range(2, x.ndim):
        side = x.shape[axis]
        places = (torch.arange(side) + steps[:, None]).clamp(0, side - 1).to(x.device)
        total = torch.zeros_like(x)
        for weight, place in zip(weights, places, strict=True):
            total = total + right(weight, x) * x.index_select(axis, place)
        x = total
    return x
