"""The losses of single examples at several noise levels, with the same noise for every example.

Letters in shapes: N examples, L noise levels, D draws of the noise, B batch, ... one example.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from reverie.audit.material import MEMBERS
from reverie.audit.settings import Settings
from reverie.conditioning import Cond
from reverie.evaluation.collection import Collection
from reverie.evaluation.team import Team
from reverie.runs import Run
from reverie.tensors import Noise, generator

BLOCK = 32
"""Examples of one part of the work; fixed, for the last bits of a network's output depend on it."""


def common(*key: int) -> Noise:
    """Standard normal noise that is the same for every example of a batch; each call draws anew."""
    drawn = [0]

    def noise(like: Tensor) -> Tensor:
        drawn[0] += 1
        one = torch.randn((1, *like.shape[1:]), generator=generator(*key, drawn[0]))
        return one.to(like).expand(like.shape)

    return noise


def places(settings: Settings) -> np.ndarray:
    """(L, D) where in [0, 1) the times of each level and draw fall, from the highest noise down."""
    each = (np.arange(settings.draws) + 0.5) / settings.draws
    found: np.ndarray = (np.arange(settings.levels)[:, None] + each) / settings.levels
    return found


def table(
    run: Run, examples: Collection, settings: Settings, team: Team = Team(), device: torch.device | str = "cpu",  # noqa: B008
    done: Callable[[int], object] = lambda n: None,
) -> np.ndarray:  # fmt: skip
    """The run's own loss of each example at each level, (N, L), the mean of D draws of the noise.

    Args:
        run: whose averaged weights, on `device`, and whose loss are used.
        examples: N of them, with labels where the run was trained with labels.
        settings: L, D and the seed of the noise.
        team: the processes that share the work.
        device: where the network is.
        done: told how many parts of `BLOCK` examples this process has finished.
    """
    f, loss, at = run.denoiser, run.loss, places(settings)
    told = run.request(examples.prompts) if examples.prompts else None

    def part(first: int) -> np.ndarray:
        number = min(BLOCK, len(examples) - first)
        rows = np.resize(np.arange(first, first + number), BLOCK)
        x0 = run.space.encode(torch.from_numpy(np.ascontiguousarray(examples.items[rows])).to(device))
        cond = None
        if told is not None:
            cond = told.condition(rows.tolist(), device)
        elif run.classes and examples.labels is not None:
            cond = Cond(label=torch.from_numpy(examples.labels[rows]).to(device))
        found = np.empty((number, *at.shape))
        for (level, draw), place in np.ndenumerate(at):
            u = torch.full((BLOCK,), float(place), dtype=torch.float64)
            with torch.no_grad():
                values = loss(f, x0, u, cond, common(settings.seed, MEMBERS, level, draw))
            found[:, level, draw] = values[:number].cpu().double().numpy()
        return found.mean(2)

    return np.concatenate(team.map(part, list(range(0, len(examples), BLOCK)), device, done))


def times(run: Run, settings: Settings) -> tuple[float, ...]:
    """t in the middle of each level, from the highest noise down."""
    u = torch.arange(settings.levels, dtype=torch.float64).add(0.5) / settings.levels
    return tuple(run.recipe.loss.times_at(u, run.schedule).tolist())
