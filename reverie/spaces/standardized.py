"""Arrays of any scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from reverie.spaces.base import Space
from reverie.tensors import count, sent


@dataclass(frozen=True)
class Standardized(Space, kind="standardized"):
    """(data - mean) / std, by channel: the axis after the batch.

    A channel that is constant in the training split is left at its own scale.
    """

    learns: ClassVar[bool] = True
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def check(self, image: bool) -> None:
        if image:
            raise ValueError(
                "space.kind=standardized is for arrays, and these data are 8-bit images: use space.kind=pixels"
            )

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
