"""Device, precision, processes and trackers of a run, through accelerate."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from reverie.runs import Run

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator(run: Run, cpu: bool) -> Accelerator:
    """The device, the CPU if `cpu` says so, precision and processes; trackers are opened.

    Raises:
        ValueError: a tracker that is unknown or not installed.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    train = run.recipe.train
    if train.precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise ValueError("train.precision=fp16 needs a CUDA device, and there is none; use bf16 or no")
    AcceleratorState._reset_state()  # the precision of an earlier run in this process is not this one's
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*no supported trackers")  # said below, as an error
            made = Accelerator(
                mixed_precision=train.precision,
                log_with=list(train.report_to) or None,
                project_dir=run.path,
                cpu=cpu,
            )
    except ValueError as error:
        raise ValueError(f"report_to={list(train.report_to)}, precision={train.precision}: {error}") from None
    opened = {t.name for t in made.log_with} if train.report_to else set()
    missing = [name for name in train.report_to if name not in {str(o) for o in opened} and name != "all"]
    if missing:
        raise ValueError(f"the tracker {missing[0]} is not installed; `pip install {missing[0]}`, or leave it out")
    if train.report_to:
        made.init_trackers("reverie", config={"run": str(run.path)})
    return made
