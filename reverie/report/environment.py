"""The machine that makes a page, in words.

Letters in shapes: none.
"""

from __future__ import annotations

import platform
import re
from importlib import metadata

import torch

from reverie.devices import processor
from reverie.version import __version__

PACKAGES = ("numpy", "scipy", "safetensors", "pillow", "matplotlib", "jinja2", "torchmetrics", "scikit-learn",
            "accelerate", "transformers")  # fmt: skip
"""Whose versions are told where they are installed."""


def environment(device: str) -> list[tuple[str, str]]:
    """Names and values: the versions, the machine, and the device in use.

    Args:
        device: cpu, cuda or mps.
    """
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return [
        ("page made with", f"Reverie {__version__}, torch {torch.__version__}, Python {platform.python_version()}"),
        ("on", f"{_device(device)}, {platform.system()} {platform.release()}, {platform.machine()}"),
        ("packages", ", ".join(found)),
    ]


def _device(device: str) -> str:
    """The model of a processor or of a graphics card."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = re.search(r"^model name\s*:\s*(.+)$", processor() or "", re.MULTILINE)
    cpu = name[1].strip() if name else platform.processor()
    return ", ".join(filter(None, (device, cpu)))
