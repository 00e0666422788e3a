"""Autoencoders: networks that bring examples to smaller latents and back, for a diffusion model to work on.

Letters in shapes: B batch, C channels of data, Z channels of latents, `...` the axes of space or time of one example.
"""

from __future__ import annotations

from reverie.autoencoders.base import AutoencoderConfig, AutoencoderNet, Rebuilt
from reverie.autoencoders.kl import KLConfig, KLNet
from reverie.autoencoders.linear import LinearConfig, LinearNet
from reverie.autoencoders.tiny import TinyConfig, TinyNet
from reverie.autoencoders.vq import VQConfig, VQNet

__all__ = [
    "AutoencoderConfig",
    "AutoencoderNet",
    "KLConfig",
    "KLNet",
    "LinearConfig",
    "LinearNet",
    "Rebuilt",
    "TinyConfig",
    "TinyNet",
    "VQConfig",
    "VQNet",
]
