"""Names of U-Nets: sizes of ours, and the published networks, as settings of `UNetConfig`."""

from __future__ import annotations

from typing import Any

_DDPM: dict[str, Any] = {
    "width": 128,
    "multipliers": [1, 2, 2, 2],
    "blocks": 2,
    "attention": [16],
    "heads": 1,
    "dropout": 0.1,
    "scale_shift": False,
    "zeros": "behind",
    "eps": 1e-6,
    "initial": "glorot",
    "period": 10_000.0 ** (64 / 63),  # frequencies 10000^(-i / 63), i = 0..63
}
_DDPMPP: dict[str, Any] = {
    **{k: v for k, v in _DDPM.items() if k not in ("zeros", "period")},
    "blocks": 4,
    "attention_up": "last",
    "resample": "projected",
    "rescale": True,
}

NAMES: dict[str, dict[str, Any]] = {
    "unet-s": {"width": 64, "multipliers": [1, 2, 2], "blocks": 2},
    "unet-b": {"width": 128, "multipliers": [1, 2, 2, 2], "blocks": 2},
    "unet-l": {"width": 192, "multipliers": [1, 2, 3, 4], "blocks": 3, "attention": 32},
    # Ho et al., 2020, CIFAR-10
    "ddpm": _DDPM,
    # Dhariwal & Nichol, 2021, ImageNet at 64 pixels
    "adm": {
        "width": 192,
        "multipliers": [1, 2, 3, 4],
        "blocks": 3,
        "attention": [32, 16, 8],
        "head_width": 64,
        "dropout": 0.1,
        "resample": "block",
    },
    # Song et al., 2021, CIFAR-10; NCSN++ with log sigma as the time label
    "ddpmpp": _DDPMPP,
    "ncsnpp": {**_DDPMPP, "fir": True, "pyramid_in": "residual", "time": "fourier"},
    # Karras et al., 2024, EDM2-S, ImageNet at 64 pixels, with log(sigma) / 4 as the time label
    "edm2": {
        "width": 192,
        "multipliers": [1, 2, 3, 4],
        "blocks": 3,
        "attention": [16, 8],
        "head_width": 64,
        "magnitude": True,
        "time": "fourier",
        "frequency": 1.0,
    },
}
"""Name to settings. A published name stands for the network of that size; settings given beside it win."""
