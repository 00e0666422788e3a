"""From a denoiser to the samples of a request: guidance, and batches fitted to memory.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from reverie import memory
from reverie.brownian import paths
from reverie.conditioning import Cond
from reverie.denoiser import Clipped, Denoises, FixedRows, ToldScale, by_row, reads_scale
from reverie.grids import checked_times
from reverie.guidance import ClassifierFree, Embedded, Thresholded
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.samplers import Picard
from reverie.sampling import prior, trajectory
from reverie.schedules import Schedule
from reverie.tensors import count

Notice = Callable[[str], object]
"""Is told, in a sentence, of what goes on otherwise than asked."""

MOST = 1024
"""The largest batch that is chosen without being asked for."""
NUMBERS = {"cpu": 2**18, "cuda": 2**20}
"""How many numbers x holds at the most in such a batch: on a CPU it then stays in its cache."""
HELD = 32
"""Copies of x that a step may hold at once: what a sampler remembers, and what it is computing."""
SHARE = 0.7
"""Of the memory that is free, the share that a batch is fitted into."""


class OutOfMemory(RuntimeError):
    """There is not enough memory for a single sample."""


@dataclass(frozen=True)
class Drawn:
    """Samples `first`, `first` + 1, ... of a request after `step` of `steps` steps: x (B, ...)."""

    first: int
    step: int
    steps: int
    x: Tensor

    @property
    def finished(self) -> bool:
        """Whether x are the samples."""
        return self.step == self.steps

    @property
    def done(self) -> int:
        """Steps of samples behind us, of `steps` times the number of samples in all."""
        return self.first * self.steps + len(self.x) * self.step


def rows_at_once(shape: tuple[int, ...], batch: int, device: torch.device | str) -> int:
    """How many rows the network sees at a time.

    On a CPU, where larger batches are no faster, it is fixed by the places of an example, whatever its channels (8 for
    images of 16x16 and more, 32 for latents of 7x7), or by the numbers of a vector, so that no sample depends on the
    batch; a power of two, which fills batches that are. Elsewhere it is the batch, which is never more than the
    next power of two of the samples asked for: there a sample is the same for any start, and the same to rounding
    for another number of rows.
    """
    if torch.device(device).type != "cpu":
        return batch
    return min(1024, _power_of_two(max(8, 2048 // count(shape[1:] or shape))))


def guided(f: Denoises, sampling: Sampling, negative: Cond | None = None, helper: object | None = None) -> Denoises:
    """The denoiser with the guidance and clipping of `sampling`, for one trajectory.

    Args:
        f: the denoiser.
        sampling: the settings.
        negative: what is led away from, in the place of no condition.
        helper: the other model that guides, where there is one.

    Raises:
        ValueError: a guide that has no use for a negative condition, has not the model that it needs, or remembers
            the call before while the sampler repeats its calls.
    """
    _check_memory(sampling)
    if reads_scale(f):
        if negative is not None or sampling.guide is not None:
            raise ValueError(
                "this model has learned to be guided away from no condition, by itself: leave out the negative text "
                "and guide, and give --guidance alone"
            )
        f = ToldScale(f, sampling.guidance)
    elif sampling.guide is not None:
        f = sampling.guide.wrap(f, sampling.guidance, helper, negative)
    elif sampling.guidance != 1:
        f = ClassifierFree(f, sampling.guidance, negative=negative)
    if sampling.threshold:
        f = Thresholded(f, sampling.threshold)
    return Clipped(f) if sampling.clip else f


def _check_memory(sampling: Sampling) -> None:
    """Refuse guidance with momentum for a sampler whose calls are not one step after the other."""
    if getattr(sampling.guide, "momentum", 0) and isinstance(sampling.sampler, Picard):
        raise ValueError(
            f"guide.momentum remembers the step before, and {sampling.sampler.kind} makes all steps at once, again and "
            f"again; take guide.momentum=0, or another sampler"
        )


def times_of(sampling: Sampling, schedule: Schedule) -> Tensor:
    """The times (N + 1,) that the grid gives and the sampler can follow.

    Raises:
        ValueError: the grid cannot be laid on the schedule, or the sampler cannot follow it.
    """
    times = checked_times(sampling.grid(schedule))
    sampling.sampler.check(schedule, times)
    return times


def _warned(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=4)


def denoise(
    f: Denoises,
    shape: tuple[int, ...],
    sampling: Sampling,
    request: Request,
    device: torch.device | str = "cpu",
    notice: Notice = _warned,
    helper: object | None = None,
) -> Iterator[Drawn]:
    """Batch by batch, x at the start and after every step, the last being the samples.

    Where memory runs out, the batch is begun again with half as many samples, and `notice` is told: the
    `first` that follows is the same again, with step 0. Nothing of a sample changes with it.

    Raises:
        ValueError: times that cannot be followed.
        OutOfMemory: a single sample does not fit.
    """
    device = torch.device(device)
    drawing = _Drawing(f, shape, sampling, request, device, times_of(sampling, f.schedule), helper)
    return drawing.batches(notice)


@dataclass(frozen=True)
class _Drawing:
    """All that a batch of a request is drawn from."""

    f: Denoises
    shape: tuple[int, ...]
    sampling: Sampling
    request: Request
    device: torch.device
    times: Tensor
    helper: object | None = None

    def batches(self, notice: Notice) -> Iterator[Drawn]:
        """Every batch, each as large as memory allows."""
        first, n, steps = 0, len(self.request.labels), len(self.times) - 1
        size = self.request.batch or fitting(self.f, self.shape, self.sampling, self.request, self.device, self.helper)
        if self.device.type != "cpu":  # the network sees whole batches, and rows beyond the samples cost as much
            size = min(size, _enough(n))
        size = max(size, rows_at_once(self.shape, size, self.device))
        while first < n:
            rows = min(rows_at_once(self.shape, size, self.device), size)  # fewer than fixed where memory is short
            part = self.request.part(first, min(n, first + math.ceil(size / rows) * rows))
            number = len(part.labels)
            full = ""
            try:
                for step, x in enumerate(self._states(rows, part)):
                    yield Drawn(first, step, steps, x)
            except Exception as error:
                if not memory.exhausted(error):
                    raise
                full = str(error).strip().partition("\n")[0] or type(error).__name__
            if full:  # out of reach of the error, which holds on to all that the batch held
                size = self._halved(size, rows, number, full, notice)
            else:
                first += number

    def _halved(self, size: int, rows: int, n: int, why: str, notice: Notice) -> int:
        """Half of a batch that did not fit, of which n rows were in use, or as many as the network saw."""
        memory.release(self.device)
        taken = min(math.ceil(size / rows), math.ceil(n / rows)) * rows
        if taken == 1:
            shape = "x".join(map(str, self.shape))
            other = "" if self.device.type == "cpu" else ", or take another --device"
            raise OutOfMemory(
                f"a single sample of {shape} does not fit the memory of {self.device} ({why}): close other programs "
                f"that hold it, halve the network's with --precision bf16{other}"
            )
        half = taken // 2
        rounded = self.device.type != "cpu" or half < rows
        same = "; samples stay the same to rounding" if rounded else "; samples stay the same"
        notice(f"out of memory with {taken} samples at a time: going on with {half}{same}")
        return half

    def _states(self, rows: int, part: Request) -> Iterator[Tensor]:
        """x of one batch, from its noise to its samples."""
        part = part.told(self.sampling, self.device)
        number, first = len(part.labels), part.start - self.request.start
        f = self._guided(rows, part, helper_part(self.helper, first, first + number))
        noise = paths(part.keys)
        x = prior(f.schedule, self.times[0], torch.empty(number, *self.shape, device=self.device), noise)
        yield x
        cond = part.condition(slice(None), self.device)
        for step in trajectory(f, self.sampling.sampler, self.times, x, cond, noise):
            yield step.x

    def _guided(self, rows: int, part: Request, helper: object | None) -> Denoises:
        """The denoiser with its guidance, on so many rows at a time.

        On a CPU they are few, and guidance fills those that a small batch leaves free. Elsewhere they
        are the batch, which guidance doubles, so that one evaluation does for both its halves; but guidance that
        holds something of each example has to see them all, and the rows are fixed inside it.
        """
        negative = None if part.negative is None else part.negative.to(self.device)
        if self.device.type == "cpu":
            return guided(FixedRows(self.f, rows), self.sampling, negative, helper)
        outside = guided(self.f, self.sampling, negative, helper)
        if by_row(outside):
            return guided(FixedRows(self.f, rows), self.sampling, negative, helper)
        return FixedRows(outside, rows)


def helper_part(helper: object | None, first: int, last: int) -> object | None:
    """The model that guides, as it is for some of the samples."""
    return helper.part(first, last) if isinstance(helper, Embedded) else helper


def synthesize(
    f: Denoises,
    shape: tuple[int, ...],
    sampling: Sampling,
    request: Request,
    device: torch.device | str = "cpu",
    notice: Notice = _warned,
    helper: object | None = None,
) -> Tensor:
    """x0 for the whole request, (B, *shape) on the CPU; arguments and errors as for `denoise`."""
    drawn = denoise(f, shape, sampling, request, device, notice, helper)
    return torch.cat([batch.x.cpu() for batch in drawn if batch.finished])


# --------------------------------------------------------------------------------- size of a batch


def fitting(
    f: Denoises,
    shape: tuple[int, ...],
    sampling: Sampling,
    request: Request,
    device: torch.device | str,
    helper: object | None = None,
) -> int:
    """How many samples to draw at a time where nobody says.

    On a CPU the network sees few rows at a time anyway, and the batch is what keeps x in the cache: at
    least those rows. On an accelerator it is a power of two, no larger than it takes for all samples, and on
    CUDA no larger than what fits into memory, as measured on 4 and 8 rows.
    """
    device, size = torch.device(device), count(shape)
    free = memory.available(device)
    most = max(1, min(MOST, NUMBERS.get(device.type, NUMBERS["cuda"]) // size))
    if device.type == "cpu":
        rows = rows_at_once(shape, 1, device)
        held = most if free is None else int(SHARE * free) // (4 * HELD * size)
        return max(rows, min(most, held) // rows * rows)
    most = min(_power_of_two(max(most, 8)), _enough(len(request.labels)))
    measured = None if most <= 8 or free is None else _measured(f, shape, sampling, request, device, helper)
    if measured is None or free is None:
        return most
    once, each = measured
    return min(most, _power_of_two(max(1, int((SHARE * free - once) / (each + 4 * HELD * size)))))


def sized(
    f: Denoises,
    shape: tuple[int, ...],
    sampling: Sampling,
    request: Request,
    device: torch.device | str,
    helper: object | None = None,
) -> Request:
    """The request with its batch chosen: ask before compiling f, which is compiled anew for each number of rows.

    `helper` is the other model that guides, where there is one.
    """
    if request.batch is not None:
        return request
    return replace(request, batch=fitting(f, shape, sampling, request, device, helper))


def _power_of_two(n: int) -> int:
    """The largest one up to n >= 1."""
    return 1 << (n.bit_length() - 1)


def _enough(n: int) -> int:
    """The smallest one from n >= 1 on."""
    return _power_of_two(2 * n - 1)


def _measured(
    f: Denoises,
    shape: tuple[int, ...],
    sampling: Sampling,
    request: Request,
    device: torch.device,
    helper: object | None = None,
) -> tuple[float, float] | None:
    """Bytes that an evaluation takes once, and for each row; None where it cannot be told."""

    def evaluate(part: Request, rows: int) -> None:
        some = [i % len(part.labels) for i in range(rows)]
        negative = None if part.negative is None else part.negative[:1].to(device)
        g, t = guided(f, sampling, negative, helper_part(helper, 0, 1)), times_of(sampling, f.schedule)[0]
        with torch.no_grad():
            g(torch.zeros(rows, *shape, device=device), t, part.condition(some, device))

    try:
        part = request.part(0, 8).told(sampling, device)  # a picture that is told takes memory, too
        evaluate(part, 4)  # the first call also loads kernels, and the libraries take what they need
        few, more = (memory.peak(device, partial(evaluate, part, rows)) for rows in (4, 8))
    except Exception as error:
        if not memory.exhausted(error):
            raise
        return 0.0, math.inf
    if few is None or more is None:
        return None
    each = max(more - few, 0) / 4
    return max(more - 8 * each, 0.0), each
