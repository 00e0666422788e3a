"""Tiny autoencoders, of convolutions and ReLUs alone: fast, and latents that are no draw.

Letters in shapes: B batch, C channels of data, Z channels of latents, E channels inside, `...` one to three axes of
space or time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reverie.autoencoders.base import AutoencoderConfig, AutoencoderNet, Rebuilt
from reverie.autoencoders.shared import chained, lowered, require_space, wide
from reverie.nets.base import at_least_one
from reverie.nets.layers import GroupNorm, conv
from reverie.nets.resampling import Downsample, Resampling, Upsample
from reverie.tensors import Noise

LIMIT = 3.0
"""Which no latent exceeds in the decoder."""
GROUPS = 4
"""In the norm of a pooled block, of 4 E channels."""


@dataclass(frozen=True)
class TinyConfig(AutoencoderConfig, kind="tiny"):
    """Settings of a `TinyNet`; TAESD has a width of 64 and 3 halvings (Bohan, 2023), TAEF2 pooled blocks too."""

    width: int = 32
    """E, at all resolutions."""
    halvings: int = 2
    """Sides of latents are f = 2^halvings times smaller than those of data."""
    blocks: int = 3
    """Residual blocks at each resolution but the highest, which has one."""
    channels: int = 4
    """Z, those of latents."""
    pooled: bool = False
    """Whether blocks at the lowest resolution see the statistics of the whole example."""

    def __post_init__(self) -> None:
        """Refuse settings that no network has."""
        names = ("width", "halvings", "blocks", "channels")
        at_least_one(self.kind, "autoencoder", **{name: getattr(self, name) for name in names})

    def latent(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        require_space(self.kind, shape)
        factors = (2**self.halvings,) * (len(shape) - 1)
        return (self.channels, *lowered(self.kind, shape, factors, "fewer halvings"))

    def build(self, shape: tuple[int, ...]) -> TinyNet:
        return TinyNet(self, shape)


class TinyBlock(nn.Module):
    """ReLU(h + convs(h)), three convolutions with ReLUs between them, (B, E, ...) -> same.

    A pooled one adds to h first what a norm over groups of channels and all places lets through, in 4 E channels.
    """

    def __init__(self, rank: int, width: int, pooled: bool) -> None:
        """`rank` axes of space, `width` is E."""
        super().__init__()
        first, second, third = (conv(rank, width, width) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        self.pool: nn.Sequential | None = None
        if pooled:
            more = 4 * width
            opened, closed = conv(rank, width, more, 1, bias=False), conv(rank, more, width, 1, bias=False)
            self.pool = nn.Sequential(opened, GroupNorm(GROUPS, more), nn.ReLU(), closed)

    def forward(self, h: Tensor) -> Tensor:
        """`h` is (B, E, ...)."""
        if self.pool is not None:
            h = h + self.pool(h)
        return torch.relu(h + self.conv(h))


class Limited(nn.Module):
    """3 tanh(z / 3): nearly z where it is small, never beyond 3."""

    def forward(self, z: Tensor) -> Tensor:
        """`z` is (B, Z, ...)."""
        return LIMIT * torch.tanh(z / LIMIT)


class TinyNet(AutoencoderNet):
    """TAESD, a Tiny AutoEncoder for the latents of Stable Diffusion (Bohan, 2023), for examples in [-1, 1].

    - encoder: a convolution and a block; then, `halvings` times, a convolution of stride 2 and `blocks` blocks; a
      convolution;
    - decoder: latents limited, a convolution, a ReLU; `halvings` times, `blocks` blocks and doubling by repeating
      each value and a convolution; a block and a convolution.

    Its inside sees examples in [0, 1], as its published weights do. Two runs of `rebuilt` are the same: there is no
    penalty, and no noise is drawn.
    """

    def __init__(self, config: TinyConfig, shape: tuple[int, ...]) -> None:
        """`shape` is (C, ...) of an example."""
        config.latent(shape)
        super().__init__()
        self.config = config
        rank, width = len(shape) - 1, config.width
        resampling = Resampling((2,) * rank)
        encoder: list[nn.Module] = [conv(rank, shape[0], width), TinyBlock(rank, width, False)]
        decoder: list[nn.Module] = [Limited(), conv(rank, config.channels, width), nn.ReLU()]
        for i in range(config.halvings):
            lowest_down, lowest_up = i == config.halvings - 1, i == 0
            encoder.append(Downsample(resampling, width, width))
            encoder += [TinyBlock(rank, width, config.pooled and lowest_down) for _ in range(config.blocks)]
            decoder += [TinyBlock(rank, width, config.pooled and lowest_up) for _ in range(config.blocks)]
            decoder.append(Upsample(resampling, width, width))
        self.encoder = nn.Sequential(*encoder, conv(rank, width, config.channels))
        self.decoder = nn.Sequential(*decoder, TinyBlock(rank, width, False), conv(rank, width, shape[0]))

    def encode(self, x: Tensor) -> Tensor:
        """(B, Z, ...), the latents.

        Raises:
            ValueError: f does not divide the sides of x.
        """
        self.config.latent(tuple(x.shape[1:]))
        return wide(chained(self.encoder, 0.5 * (x + 1), self.checkpointing))

    def decode(self, z: Tensor) -> Tensor:
        return 2 * wide(chained(self.decoder, z, self.checkpointing)) - 1

    def rebuilt(self, x: Tensor, noise: Noise = torch.randn_like) -> Rebuilt:
        """The pass of training; `noise` is not drawn."""
        z = self.encode(x)
        return Rebuilt(self.decode(z), z, z.new_zeros(len(z)))
