"""From a way to its results, batch by batch.

Letters in shapes: n results, B batch, C channels, H height, W width.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor

from reverie import memory
from reverie.edits.scene import Scene, Wish
from reverie.edits.way import Way
from reverie.guidance import Embedded
from reverie.guiding import helper_of
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.runs import Run
from reverie.synthesis import Notice, OutOfMemory, times_of

ROWS = 8
"""Results at a time on a CPU, where more are no faster."""
MOST = 64
"""Results at a time elsewhere."""


def edit(
    run: Run, way: Way, wish: Wish | None = None, n: int | None = None, seed: int = 0,
    sampling: Sampling | None = None, notice: Notice = warnings.warn,
) -> Tensor:  # fmt: skip
    """Pictures (n, C, H, W) uint8 that a way makes of its own.

    Result i draws its noise from streams keyed by (seed, i), and on a CPU as many rows are computed at a time
    whatever n is, so no result depends on how many are asked for.

    Args:
        run: with the network on the device that is to be used.
        way: the picture and what is done to it.
        wish: what the results should be; nothing unless given.
        n: how many; as the way says unless given.
        seed: each seed numbers its own series of results.
        sampling: sampler, grid and guidance; what the way makes of the run's own unless given.
        notice: is told, in a sentence, of what goes on otherwise than asked.

    Raises:
        ValueError: something that the way cannot do with this run, or the model cannot be asked for.
        OutOfMemory: a single result does not fit.
    """
    wish = wish or Wish()
    n = way.number(wish) if n is None else n
    if n < 1:
        raise ValueError(f"at least 1 result; given {n}")
    way.check(run)
    sampling = way.own(run).completed(run.space, run.shape) if sampling is None else sampling
    times_of(sampling, run.schedule)
    device = next(run.denoiser.parameters()).device
    rows = ROWS if device.type == "cpu" else min(MOST, 1 << (n - 1).bit_length())
    total = -(-n // rows) * rows
    request = wish.request(run, total, way.image(run), sampling, way.embedding(run, total, n))
    request = replace(request, seed=seed)
    for said in request.remarks:
        notice(said)
    if wish.empty and run.vocabulary.parts and not run.recipe.train.drop:
        notice(f"{run.path} was trained with train.drop=0, so it knows nothing that it was not told what it is")
    scene = Scene(run, sampling, request, n, device, helper_of(run, sampling, request, device))
    return _drawn(way, scene, rows, notice)


def _drawn(way: Way, whole: Scene, rows: int, notice: Notice) -> Tensor:
    """All results, so many at a time, and half as many where memory runs out."""
    made: list[Tensor] = []
    first = 0
    while first < whole.n:
        full = ""
        try:
            made.append(way.draw(_part(way, whole, first, first + rows)))
        except Exception as error:
            if not memory.exhausted(error):
                raise
            full = str(error).strip().partition("\n")[0] or type(error).__name__
        if not full:
            first += rows
            continue
        memory.release(whole.device)
        if rows == 1:
            raise OutOfMemory(f"a single result does not fit the memory of {whole.device} ({full})")
        rows //= 2
        notice(f"out of memory with {2 * rows} results at a time: going on with {rows}; results stay, to rounding")
    return torch.cat(made)[: whole.n]


def _part(way: Way, whole: Scene, first: int, last: int) -> Scene:
    """The scene of some of the results, with what stages below make for them."""
    helper = whole.helper.part(first, last) if isinstance(whole.helper, Embedded) else whole.helper
    part: Request = whole.request.part(first, last)
    if not part.below:
        request = part
    elif way.moves:  # what is below has one noise for all, too
        alone = [replace(part.part(i, i + 1), start=whole.request.start) for i in range(last - first)]
        request = part.told(whole.sampling, whole.device, alone)
    else:
        request = part.told(whole.sampling, whole.device)
    return replace(whole, request=request, helper=helper, whole=whole.request)
