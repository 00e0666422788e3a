"""How much memory there is, and whether an error says that there is no more."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import torch

SAID = ("can't allocate memory", "cannot allocate memory", "out of memory", "ALLOC_FAILED")
"""How torch and the libraries below it say so where they have no class of error for it."""

OLD = "memory"
"""The folder of the first version of control groups."""


def exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words.lower() in str(error).lower() for words in SAID)


def available(device: torch.device | str) -> int | None:
    """Bytes that can still be had; None where nobody tells.

    On the host: what the system can give without swapping, or what is left under the limit of the
    control group that a container runs in, if that is less. Files that the system keeps in memory while
    there is room, and has not used of late, count as free.
    """
    device = torch.device(device)
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, but free
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory()) - int(torch.mps.driver_allocated_memory())
    return _host() if device.type == "cpu" else None


def _host() -> int | None:
    found = [n for n in (_system(), _group()) if n is not None]
    return min(found) if found else None


def _system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not every system counts them
        return None


def _group(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    for most, used, told, cached in (
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (f"{OLD}/memory.limit_in_bytes", f"{OLD}/memory.usage_in_bytes", f"{OLD}/memory.stat", "total_inactive_file"),
    ):
        try:
            left = int((root / most).read_text()) - int((root / used).read_text())
            return max(0, left + _counted(root / told, cached))
        except (OSError, ValueError):  # no such group, or no limit ("max")
            continue
    return None


def _counted(path: Path, name: str) -> int:
    """A number of a file with a name and a number in each line; 0 where it is not there."""
    try:
        return int(dict(line.split() for line in path.read_text().splitlines())[name])
    except (OSError, ValueError, KeyError):
        return 0


def peak(device: torch.device | str, call: Callable[[], object]) -> int | None:
    """The most bytes that a call held at once, beyond those held before; None where nobody counts them."""
    device = torch.device(device)
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - before


def release(device: torch.device | str) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
    elif torch.device(device).type == "mps":
        torch.mps.empty_cache()
