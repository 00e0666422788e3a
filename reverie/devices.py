"""Which device to compute on, and what its memory costs."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

import torch

CPU = Path("/proc/cpuinfo")
"""Where Linux tells of its processors."""


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


def processor() -> str | None:
    """What Linux says of its first processor, maker and instructions among it, in lower case; None elsewhere."""
    try:
        return CPU.read_text(errors="ignore").partition("\n\n")[0].lower()
    except OSError:
        return None


@cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensor, for this process; whether it does.

    glibc gives the memory of a large tensor back to the system as soon as it is freed, and the next
    one has every page mapped anew: 0.2 ms of a step on a tensor of 64x3x32x32, several times what the
    step itself takes, 75,000 pages a training step of a small U-Net, and half again on a product of
    matrices that makes 50 MB. So nothing is given back (M_TRIM_THRESHOLD), and tensors of more than
    32 MB, the largest M_MMAP_THRESHOLD, come from the heap as others do (M_MMAP_MAX). The peak stays
    what it is. Nothing is done where the environment says how (MALLOC_TRIM_THRESHOLD_ and the like),
    or on another C library.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    settings = {-1: 2**31 - 1, -3: 32 * 2**20, -4: 0}  # malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX
    return all(mallopt(name, value) for name, value in settings.items())
