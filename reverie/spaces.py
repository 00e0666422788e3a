"""Spaces: data <-> what the model sees.

A space is fitted on the training split only and stored with the weights.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from reverie.config import Part
from reverie.tensors import count, sent


class Space(Part, abc.ABC, family="space"):
    """`encode` and `decode` between data (B, ...) and x0 (B, ...), of the same shape."""

    bounded: ClassVar[bool] = False
    """Whether x0 lies in [-1, 1], so that clipping it there is right."""
    learns: ClassVar[bool] = False
    """Whether `fit` looks at the data."""
    quantum: ClassVar[float] = 0.0
    """The spacing of the grid that data lie on; 0 where they lie on none."""

    def fit(self, data: Tensor) -> Self:
        """The space for data like these (N, ...): itself, where nothing is fitted."""
        return self

    def scale(self, shape: Sequence[int]) -> float:
        """About the sigma / alpha at which it shows what an example of this shape is of: 1, the standard deviation."""
        return 1.0

    @abc.abstractmethod
    def encode(self, data: Tensor) -> Tensor:
        """Data to x0, float32."""

    @abc.abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """x0 to data."""

    def log_volume(self, shape: Sequence[int]) -> float:
        """log |det dx0/d data| for one example of this shape: what turns densities of x0 into those of data.

        Raises:
            ValueError: a density of x0 says nothing of one of the data here.
        """
        raise ValueError(f"space {self.kind!r} has no log_volume: its densities stay in the model's space, in nats")


@dataclass(frozen=True)
class Pixels(Space, kind="pixels"):
    """8-bit values 0 ... 255 to [-1, 1]; decoding rounds and clips to uint8."""

    bounded: ClassVar[bool] = True
    quantum: ClassVar[float] = 1.0

    def scale(self, shape: Sequence[int]) -> float:
        """0.6 (pixels / 64)^(1/4), and 0.6 for smaller ones.

        0.6 lies between the standard deviation of photographs, 0.5, and of drawings on a plain ground, 0.7.
        Neighbouring pixels say the same, so the larger a picture, the more noise hides what it is of
        (Hoogeboom et al., 2023; Esser et al., 2024, who shift by the square of this).
        """
        return 0.6 * max(1.0, count(shape[1:]) / 64) ** 0.25

    def encode(self, data: Tensor) -> Tensor:
        return data.to(torch.float32) / 127.5 - 1

    def decode(self, x: Tensor) -> Tensor:
        return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def log_volume(self, shape: Sequence[int]) -> float:
        return -count(shape) * math.log(127.5)


@dataclass(frozen=True)
class Standardized(Space, kind="standardized"):
    """(data - mean) / std, by channel: the axis after the batch.

    A channel that is constant in the training split is left at its own scale.
    """

    learns: ClassVar[bool] = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def fit(self, data: Tensor) -> Self:
        channels = data.to(torch.float64).transpose(0, 1).flatten(1)
        std = channels.std(1, correction=0)
        std = torch.where(std > 0, std, torch.ones_like(std))
        return replace(self, mean=tuple(channels.mean(1).tolist()), std=tuple(std.tolist()))

    def _check(self, channels: int) -> None:
        if len(self.mean) != channels:
            raise ValueError(f"this space was fitted on {len(self.mean)} channels; the data have {channels}")

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        self._check(like.shape[1])
        shape = (1, -1) + (1,) * (like.ndim - 2)
        like = like.new_empty(0, dtype=torch.float32)
        mean, std = (sent(torch.tensor(values, dtype=torch.float32), like) for values in (self.mean, self.std))
        return mean.reshape(shape), std.reshape(shape)

    def encode(self, data: Tensor) -> Tensor:
        mean, std = self._statistics(data)
        return (data.to(torch.float32) - mean) / std

    def decode(self, x: Tensor) -> Tensor:
        mean, std = self._statistics(x)
        return x * std + mean

    def log_volume(self, shape: Sequence[int]) -> float:
        self._check(shape[0])
        return -count(shape[1:]) * sum(math.log(std) for std in self.std)
