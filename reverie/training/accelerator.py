"""Device, precision, processes and trackers of a run, and the gradient of a step, through accelerate."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from reverie.recipe import Train
from reverie.runs import Run
from reverie.tensors import global_randomness
from reverie.training.batches import Batch

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
    check_precision(train, cpu)
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


def check_precision(train: Train, cpu: bool) -> None:
    """Refuse a precision that the device has not, at best before there is a run of that recipe.

    Raises:
        ValueError: fp16, and no CUDA device.
    """
    if train.precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise ValueError("train.precision=fp16 needs a CUDA device, and there is none; use bf16 or no")


def on_cpu() -> bool:
    """Whether to train on the CPU; accelerate joins processes there only when it is told so."""
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def gradient(
    made: Accelerator, objective: nn.Module, parts: Sequence[Batch], key: tuple[int, ...], rank: int, asked: int
) -> tuple[Tensor, list[Tensor]]:
    """Leave the gradient of the mean loss of all parts in the parameters of the objective.

    Args:
        made: knows device and processes.
        objective: a batch to its losses (B,).
        parts: the batches of a step.
        key: of the step's randomness, to which part and rank are added.
        rank: this process.
        asked: the signal that it was sent, 0 for none.

    Returns:
        The loss and the signal of each process, (processes, 2), and the losses (B,) of each part.
    """
    losses, values = [], []
    for i, batch in enumerate(parts):
        synchronise = nullcontext() if i == len(parts) - 1 else made.no_sync(objective)
        with synchronise, global_randomness(*key, i, rank, device=made.device):
            each = objective(batch)
            loss = each.mean()
            values.append(each.detach())
            losses.append(loss.detach())
            made.backward(loss / len(parts))
    mean = torch.stack(losses).float().mean()
    told = torch.stack([mean, torch.full_like(mean, float(asked))])
    return made.gather(told[None]), values
