"""Samples of a denoiser as data, drawn by all processes and threads together.

Letters in shapes: N samples, ... one example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from reverie.denoiser import Denoises
from reverie.evaluation.team import Team
from reverie.recipe import Sampling
from reverie.request import Request
from reverie.spaces import Space
from reverie.synthesis import helper_part, rows_at_once, synthesize
from reverie.tensors import count

BLOCK = {"cpu": 32, "cuda": 256}
"""Samples of one part of the work; more of them where they are small, so that a part is worth its while."""


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """(first, last + 1) of consecutive parts of n, of `size` but for the last.

    >>> blocks(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(first, min(first + size, n)) for first in range(0, n, size)]


def draw(
    f: Denoises,
    space: Space,
    shape: tuple[int, ...],
    request: Request,
    sampling: Sampling,
    *,
    team: Team = Team(),  # noqa: B008  # a value
    device: torch.device | str = "cpu",
    done: Callable[[int], object] = lambda n: None,
    helper: object | None = None,
) -> np.ndarray:
    """All samples of a request as data: uint8 images (N, C, H, W), or (N, ...) float32.

    They are what `reverie.runs.Run.sample` draws, but for the last bits where a CPU's threads share an
    operation there, and the same for any number of processes and threads.

    Args:
        f: the denoiser.
        space: what turns x0 into data.
        shape: of one example.
        request: what is asked for; its `batch` is not used.
        sampling: sampler, grid, guidance.
        team: the processes that share the work; every one of them gets all samples.
        device: where f is.
        done: told how many samples this process has drawn.
        helper: the other model that guides, where there is one; see `reverie.guiding`.

    Raises:
        ValueError: times that cannot be followed.
    """
    where, n = torch.device(device), len(request.labels)
    size = max(BLOCK.get(where.type, BLOCK["cuda"]), rows_at_once(shape, 1, "cpu"), 2**14 // count(shape))

    def part(block: tuple[int, int]) -> np.ndarray:
        first, last = block
        own = replace(request.part(first, last), batch=size)
        guide = helper_part(helper, first, last)
        made: np.ndarray = space.decode(synthesize(f, shape, sampling, own, where, helper=guide)).numpy()
        return made

    return np.concatenate(team.map(part, blocks(n, size), where, lambda k: done(min(k * size, n))))
