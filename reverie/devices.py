"""Which device to compute on."""

from __future__ import annotations

import torch


def fastest() -> str:
    """cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def usable(device: str | None) -> str:
    """The device, or the fastest if None.

    Raises:
        ValueError: it cannot be used here.
    """
    if device is None:
        return fastest()
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled for the device
        why = str(error).partition("\n")[0]
        raise ValueError(f"device {device!r} cannot be used here ({why}); write cpu, cuda or mps") from None
    return device
