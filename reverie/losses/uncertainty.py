"""A loss whose noise levels are balanced by what is learned of their difficulty."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.losses.base import Around, Bring, Loss, layers
from reverie.losses.denoising import Denoising
from reverie.parameterizations import Parameterization
from reverie.schedules import Schedule
from reverie.tensors import Noise, generator, host


@dataclass(frozen=True)
class Uncertain(Around, kind="uncertain"):
    """loss / exp(c) + c, with c(log-SNR) learned beside the network (Karras et al., 2024, eq. 14 and 15).

    At its best exp(c) is the mean of the loss at a level, so that every level weighs the same.

    Args:
        loss: what is balanced; it must be positive.
        channels: random Fourier features of log(sigma / alpha) / 4 that c is linear in.

    Raises:
        ValueError: channels < 1.
    """

    loss: Loss = field(default_factory=Denoising)
    channels: int = 128
    positive = False

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"Uncertain needs channels >= 1; given {self.channels}")

    def memory(self, bring: Bring | None = None) -> Uncertainty:
        return Uncertainty(self.channels, self.loss.memory(bring))

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        if memory is None:
            return self.loss(f, x0, u, cond, noise)
        assert isinstance(memory, Uncertainty)
        value = self.loss(f, x0, u, cond, noise, memory.inner)
        c = memory(f.schedule.log_snr(host(self.times_at(u, f.schedule)))).to(value.dtype)
        return value * (-c).exp() + c

    def observe(self, memory: nn.Module | None, u: Tensor, values: Tensor) -> None:
        """Let the loss inside remember the step, of which it is told no values: these are balanced ones."""
        if isinstance(memory, Uncertainty):
            self.loss.observe(memory.inner, u, values)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """As the loss inside, which must be positive and keep no record of its values.

        Raises:
            ValueError: with what would fit.
        """
        if not self.loss.positive or any(inner.kind == "resampled" for inner in layers(self.loss)):
            raise ValueError(
                f"Uncertain needs a positive loss without a balance of its own; {self.loss.kind} is none as it is. Use "
                f"loss.loss.kind=denoising, or bound or hybrid with loss.loss.bins=256; resampled may stand around it"
            )
        super().check(schedule, parameterization)


class Uncertainty(nn.Module):
    """c (B,) of log-SNR (B,): linear in cos(2 pi (frequency log(sigma / alpha) / 4 + phase)), 0 at first."""

    frequency: Tensor
    phase: Tensor

    def __init__(self, channels: int, inner: nn.Module | None = None) -> None:
        """`inner` is the memory of the loss inside."""
        super().__init__()
        self.inner = inner
        draw = generator(channels)
        self.register_buffer("frequency", torch.randn(channels, generator=draw))
        self.register_buffer("phase", torch.rand(channels, generator=draw))
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, log_snr: Tensor) -> Tensor:
        """(B,), on the device of the weights."""
        label = (-log_snr.clamp(-80, 80) / 8).to(self.frequency)
        features = (2 * math.pi * (label[:, None] * self.frequency + self.phase)).cos() * math.sqrt(2)
        return (features * self.weight).sum(1) / math.sqrt(
            len(self.weight)
        )  # no product of matrices: those are autocast
