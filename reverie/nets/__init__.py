"""Backbones: networks called as `net(x, label, cond)`. Nothing here knows a schedule.

Letters in shapes: D numbers, C channels, L samples of a series or wave, T frames, H height, W width of an image.
"""

from __future__ import annotations

from torch import nn

from reverie.nets.base import NetConfig
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
    (D,), or more than three axes       an MLP
    behind the channels
    (C, L), L below 8                   an MLP
    (C, L), longer                      a U-Net of 32 channels, of 5 levels at most that bring L
                                        to 16 or less, or as many as bring it to 256 or less
    (C, H, W), a side below 4           an MLP
    (C, H, W), longer side up to 16     a transformer of patches of 2
    (C, H, W), larger                   a U-Net, as many levels as bring the longer side to 8 or
                                        less, at most 5; of 32 channels up to 64 pixels, then 64
    (C, T, H, W), H or W below 4        an MLP
    (C, T, H, W)                        a transformer that attends within frames and along time by
                                        turns, of patches of 2 up to 16 pixels, 4 up to 64, then 8
    ==================================  =======================================================
    """
    space = shape[1:]
    if not 1 <= len(space) <= 3 or min(shape) < 1 or min(space[-2:]) < (8 if len(space) == 1 else 4):
        return MLPConfig()
    longer = max(space[-2:])
    if len(space) == 1:
        return UNetConfig(width=32, multipliers=_levels(longer, 16, 256), blocks=1, attention=16)
    if len(space) == 3:
        side = 2 if longer <= 16 else 4 if longer <= 64 else 8
        return DiTConfig(depth=4, patch=(1, side, side), factorised=True)
    if longer <= 16:
        return DiTConfig(depth=4)
    return UNetConfig(width=32 if longer <= 64 else 64, multipliers=_levels(longer, 8), blocks=1, attention=8)


def _levels(side: int, goal: int, at_most: int | None = None) -> tuple[int, ...]:
    """Multipliers of 2 to 5 levels that bring `side` to `goal`; more of 1 before them, to bring it to `at_most`."""
    count = next(n for n in range(2, 6) if n == 5 or side <= goal * 2 ** (n - 1))
    more = 0 if at_most is None else max(0, (-(-side // at_most) - 1).bit_length() - (count - 1))
    return (1,) * more + (1, 2, 2, 4, 4)[:count]


def parameters(net: nn.Module) -> int:
    """How many numbers of `net` are trained."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
