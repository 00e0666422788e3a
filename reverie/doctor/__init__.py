"""Whether diffusion works here: the mathematics, this device and precision, a run.

    for finding in reverie.doctor.examine(device="cuda", run="runs/digits"):
        print(finding.verdict, finding.check, finding.seen)

Everything but the run is checked against answers that are known: closed forms and exact denoisers. No
data and no network access are needed. It takes less than a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import torch

from reverie.devices import usable
from reverie.doctor import device as devices
from reverie.doctor import parallel, process, sampling, stages
from reverie.doctor import run as runs
from reverie.doctor.finding import Check, Finding, find
from reverie.runs import Run, located

__all__ = ["GROUPS", "PRECISIONS", "Finding", "examine"]

GROUPS = (
    process.GROUP, process.NOTATIONS, sampling.SAMPLERS, sampling.GUIDANCE, sampling.NOISE, sampling.LIKELIHOOD,
    devices.GROUP, parallel.GROUP, runs.GROUP, stages.GROUP,
)  # fmt: skip
"""What is looked at, in this order."""
PRECISIONS = tuple(devices.HALF)


def examine(
    device: str | torch.device | None = None,
    run: Run | Path | str | None = None,
    precision: str = "no",
    only: Collection[str] = (),
) -> Iterator[Finding]:
    """Look at everything, one finding at a time; the caller prints, and may stop.

    Args:
        device: where networks are tried: cpu, cuda, mps; the fastest there is unless given.
        run: a run, or its folder, to be looked at as well. Nothing in it is changed.
        precision: no, bf16 or fp16, as `train.precision`.
        only: some of `GROUPS`; all unless given.

    Raises:
        ValueError: an unknown group or precision, or there is no such folder.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}; given {precision!r}")
    if unknown := [group for group in only if group not in GROUPS]:
        raise ValueError(f"there is nothing called {unknown[0]!r} to look at; there is {', '.join(GROUPS)}")
    if run is None and {runs.GROUP, stages.GROUP} & set(only):
        raise ValueError("to look at a run, name its folder as well")
    folder = run.path if isinstance(run, Run) else None if run is None else located(run)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"there is no run folder {folder}")
    return _findings(torch.device(usable(None) if device is None else device), folder, precision, only)


def _findings(device: torch.device, folder: Path | None, precision: str, only: Collection[str]) -> Iterator[Finding]:
    parts: list[tuple[Collection[str], Callable[[], Iterator[Check]]]] = [
        ((process.GROUP, process.NOTATIONS), process.checks),
        ((sampling.SAMPLERS, sampling.GUIDANCE, sampling.NOISE, sampling.LIKELIHOOD), sampling.checks),
        ((devices.GROUP,), lambda: devices.checks(device, precision)),
        ((parallel.GROUP,), lambda: parallel.checks(device)),
    ]
    if folder is not None:
        parts.append(((runs.GROUP, stages.GROUP), lambda: runs.checks(folder, device)))
    for groups, checks in parts:
        if only and not set(groups) & set(only):
            continue
        for check in checks():
            if not only or check.group in only:
                yield find(check)
