"""Device, precision, processes and trackers of a run, and the gradient of a step, through accelerate."""

from __future__ import annotations

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
        ValueError: a precision or a tracker that is not to be had here.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    train = run.recipe.train
    check_available(train, cpu)
    AcceleratorState._reset_state()  # the precision of an earlier run in this process is not this one's
    trackers = list(train.report_to) or None
    rests = DistributedDataParallelKwargs(find_unused_parameters=run.recipe.loss.rests)  # else it waits for gradients
    made = Accelerator(
        mixed_precision=train.precision, log_with=trackers, project_dir=run.path, cpu=cpu, kwargs_handlers=[rests]
    )
    if trackers:
        made.init_trackers("reverie", config={"run": str(run.path)})
    return made


def check_available(train: Train, cpu: bool) -> None:
    """Refuse a precision or a tracker that is not to be had here, at best before there is a run of that recipe.

    Raises:
        ValueError: fp16, and no CUDA device; a tracker that accelerate does not know, or that is not installed.
    """
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType, is_bf16_available

    if train.precision == "bf16" and not cpu and not is_bf16_available(ignore_tpu=True):
        raise ValueError("train.precision=bf16 is not to be had on this device; use no, or fp16 on CUDA")
    if train.precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise ValueError("train.precision=fp16 needs a CUDA device, and there is none; use bf16 or no")
    known, installed = [str(t) for t in LoggerType], {"all", *map(str, get_available_trackers())}
    for name in train.report_to:
        if name not in known:
            raise ValueError(f"train.report_to names the tracker {name!r}; there are: {', '.join(known)}")
        if name not in installed:
            raise ValueError(f"the tracker {name} is not installed; `pip install {name}`, or leave it out")


def on_cpu() -> bool:
    """Whether to train on the CPU; accelerate joins processes there only when it is told so."""
    from accelerate.utils import parse_flag_from_env

    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def device_here() -> torch.device:
    """What one process trains on here."""
    return torch.device("cpu") if on_cpu() else torch.accelerator.current_accelerator() or torch.device("cpu")


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
