"""Time labels: the number that tells a network how noisy its input is.

A label made from the log-SNR means the same under every schedule, so a network keeps its meaning
when it is sampled under another one; the index of a chain is what published DDPM weights expect.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.config import Part
from reverie.schedules import Level


class TimeLabel(Part, abc.ABC, family="time_label"):
    """A level to a number; (B, 1, ...) or () in, the same shape out, always finite."""

    @abc.abstractmethod
    def __call__(self, level: Level) -> Tensor:
        """The label of `level`."""


@dataclass(frozen=True)
class LogSNR(TimeLabel, kind="log_snr"):
    """scale * log-SNR, the log-SNR clipped to [-limit, limit] (Kingma et al., 2021)."""

    scale: float = 0.25
    limit: float = 20.0

    def __call__(self, level: Level) -> Tensor:
        return self.scale * level.log_snr.clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class Index(TimeLabel, kind="index"):
    """The index t T - 1 of a chain of T = `total` steps, 0 at its first knot (Ho et al., 2020)."""

    total: int = 1000

    def __call__(self, level: Level) -> Tensor:
        return level.t * self.total - 1


@dataclass(frozen=True)
class LogSigma(TimeLabel, kind="log_sigma"):
    """scale * log(sigma / alpha): EDM's c_noise with scale 1/4 (Karras et al., 2022, table 1)."""

    scale: float = 0.25
    limit: float = 10.0

    def __call__(self, level: Level) -> Tensor:
        return self.scale * (-0.5 * level.log_snr).clamp(-self.limit, self.limit)


@dataclass(frozen=True)
class Time(TimeLabel, kind="time"):
    """scale * t, as flow-matching models have it."""

    scale: float = 1000.0

    def __call__(self, level: Level) -> Tensor:
        return torch.as_tensor(level.t) * self.scale
