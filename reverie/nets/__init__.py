"""Backbones: networks called as `net(x, label, cond)`. Nothing here knows a schedule.

Letters in shapes: B batch, C channels, H height, W width of an image.
"""

from __future__ import annotations

from torch import nn

from reverie.nets.base import NetConfig, is_image
from reverie.nets.dit import DiT, DiTConfig
from reverie.nets.embeddings import check_labels, sinusoidal
from reverie.nets.mlp import MLP, MLPConfig
from reverie.nets.refinenet import RefineNet, RefineNetConfig
from reverie.nets.unet import UNet, UNetConfig
from reverie.nets.wavenet import WaveNet, WaveNetConfig

__all__ = [
    "MLP",
    "DiT",
    "DiTConfig",
    "MLPConfig",
    "NetConfig",
    "RefineNet",
    "RefineNetConfig",
    "UNet",
    "UNetConfig",
    "WaveNet",
    "WaveNetConfig",
    "check_labels",
    "parameters",
    "sinusoidal",
    "suited",
]


def suited(shape: tuple[int, ...]) -> NetConfig:
    """A backbone for examples of this shape, of a size that trains in minutes on two cores.

    ==================================  =======================================================
    shape                               backbone
    ==================================  =======================================================
    not (C, H, W), or a side below 4    an MLP
    (C, H, W), longer side up to 16     a transformer of patches of 2
    larger                              a U-Net, as many levels as bring the longer side to 8 or
                                        less, at most 5; of 32 channels up to 64 pixels, then 64
    ==================================  =======================================================
    """
    if not is_image(shape) or min(shape[1:]) < 4:
        return MLPConfig()
    longer = max(shape[1:])
    if longer <= 16:
        return DiTConfig(depth=4)
    levels = next(n for n in range(2, 6) if n == 5 or longer <= 8 * 2 ** (n - 1))
    width, multipliers = 32 if longer <= 64 else 64, (1, 2, 2, 4, 4)[:levels]
    return UNetConfig(width=width, multipliers=multipliers, blocks=1, attention=8)


def parameters(net: nn.Module) -> int:
    """How many numbers of `net` are trained."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
