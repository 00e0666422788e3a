"""Which device to compute on, and what its memory costs."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

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


@cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the next tensor, for this process; whether it does.

    glibc gives the memory of a large tensor back to the system as soon as it is freed, and the next
    one has every page mapped anew: 0.2 ms of a step on a tensor of 64x3x32x32, several times what the
    step itself takes. The peak stays what it is. Nothing is done where the environment says how
    (MALLOC_TRIM_THRESHOLD_ and the like), or on another C library.
    """
    if sys.platform != "linux" or any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    return bool(mallopt(trim_threshold, 2**31 - 1)) and bool(mallopt(mmap_threshold, 32 * 2**20))
