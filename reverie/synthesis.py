"""From a denoiser to data: the seeds, conditions, batches and settings of a request for samples.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Clipped, Denoises, FixedRows
from reverie.guidance import ClassifierFree
from reverie.recipe import Sampling
from reverie.sampling import prior, trajectory
from reverie.tensors import Streams, count, streams


@dataclass(frozen=True)
class Request:
    """Samples `start`, `start` + 1, ... of `seed`, one for each entry of `labels`.

    Sample i draws all its noise from a stream keyed by (seed, i), so it is the same in any batch.

    Raises:
        ValueError: no samples asked for, or a negative seed, start or batch.
    """

    labels: tuple[int | None, ...]
    """The class of each sample, None for no condition."""
    seed: int = 0
    start: int = 0
    batch: int = 64

    def __post_init__(self) -> None:
        if not self.labels or self.batch < 1:
            raise ValueError(f"at least 1 sample and a batch of at least 1; given {len(self.labels)} and {self.batch}")
        if self.seed < 0 or self.start < 0:
            raise ValueError(f"seed and start must be at least 0; given seed={self.seed}, start={self.start}")


def rows_at_once(shape: tuple[int, ...], batch: int, device: torch.device | str) -> int:
    """How many rows the network sees at a time.

    On a CPU, where larger batches are no faster, it is fixed by the shape of an example (8 for
    images of 16x16 and more), so that no sample depends on the batch. Elsewhere it is the batch: there a
    sample is the same for any number and any start, and the same to rounding for another batch.
    """
    return min(1024, max(8, 2048 // count(shape))) if torch.device(device).type == "cpu" else batch


def guided(f: Denoises, sampling: Sampling) -> Denoises:
    """The denoiser with the guidance and clipping of `sampling`."""
    if sampling.guidance != 1:
        f = ClassifierFree(f, sampling.guidance)
    return Clipped(f) if sampling.clip else f


def condition(labels: Sequence[int | None], device: torch.device | str) -> Cond | None:
    """The condition for these labels: None stands for no condition."""
    if all(label is None for label in labels):
        return None
    drop = torch.tensor([label is None for label in labels], device=device)
    label = torch.tensor([0 if label is None else label for label in labels], device=device)
    return Cond(label=label, drop=drop if bool(drop.any()) else None)


def denoise(
    f: Denoises, shape: tuple[int, ...], sampling: Sampling, request: Request, device: torch.device | str = "cpu"
) -> Iterator[Iterator[Tensor]]:
    """For each batch, x (B, *shape) at the start and after every step, the last being the sample."""
    times = sampling.grid(f.schedule)
    rows = rows_at_once(shape, request.batch, device)
    f = guided(FixedRows(f, rows), sampling)
    batch = math.ceil(request.batch / rows) * rows
    for first in range(0, len(request.labels), batch):
        labels = request.labels[first : first + batch]
        noise = streams([(request.seed, request.start + first + i) for i in range(len(labels))])
        x = prior(f.schedule, times[0], torch.empty(len(labels), *shape, device=device), noise)
        cond = condition(labels, device)

        def states(x: Tensor = x, cond: Cond | None = cond, noise: Streams = noise) -> Iterator[Tensor]:
            yield x
            for step in trajectory(f, sampling.sampler, times, x, cond, noise):
                yield step.x

        yield states()


def synthesize(
    f: Denoises, shape: tuple[int, ...], sampling: Sampling, request: Request, device: torch.device | str = "cpu"
) -> Tensor:
    """x0 for the whole request, (B, *shape) on the CPU."""
    done = []
    for states in denoise(f, shape, sampling, request, device):
        for x in states:
            last = x
        done.append(last.cpu())
    return torch.cat(done)
