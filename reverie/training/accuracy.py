"""How often a classifier, or an image-text pair, is right about held-out examples, by noise level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.models import NoisyClassifier, NoisyPair
from reverie.prediction import Prediction
from reverie.tensors import generator, host, sent
from reverie.training.batches import VALIDATION, encoded
from reverie.training.seen import Seen

if TYPE_CHECKING:
    from reverie.runs import Run

LEVELS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""sigma / alpha."""
MOST = 512
"""Examples that are looked at."""
BATCH = 128
"""At a time, at the most; an image finds its text among so many."""


@dataclass(frozen=True)
class Accuracy:
    """The share of held-out examples that a model is right about."""

    levels: tuple[float, ...]
    """sigma / alpha: those of `LEVELS`, or the next ones that the process has."""
    by_level: tuple[float, ...]
    chance: float
    """The share of a model that knows nothing."""
    examples: int

    def line(self) -> dict[str, object]:
        """As it stands in metrics.jsonl."""
        return {
            "accuracy_by_level": list(self.by_level),
            "noise_levels": list(self.levels),
            "chance": self.chance,
            "judged": self.examples,
        }


def accuracy(
    run: Run, f: NoisyClassifier | NoisyPair, shown: Seen, rows: np.ndarray, device: torch.device | str
) -> Accuracy | None:
    """The accuracy of `f` on up to `MOST` held-out rows, the same rows and noise every time.

    None where none of them has a label, or a caption. The rows at a time are those of a step of training, so that
    an image-text pair is asked what it was trained for.
    """
    seed, schedule = run.recipe.train.seed, run.schedule
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, VALIDATION))))
    chosen = draw.permutation(rows)[:MOST]
    t = schedule.time(-2 * host(LEVELS).log())
    told = shown.told
    hits: list[list[Tensor]] = [[] for _ in LEVELS]
    guesses: list[Tensor] = []
    noises = [generator(seed, VALIDATION, len(LEVELS), i) for i in range(len(LEVELS))]
    size = min(BATCH, run.recipe.train.batch)
    for first in range(0, len(chosen), size):
        part = chosen[first : first + size]
        x0, label = encoded(shown.examples, shown.space, part, device)
        label = label if run.recipe.labels else None
        cond = Cond(label=label) if told is None else told.cond(part, x0, label)
        guesses.append(f.guessed(cond, len(x0)))
        for i, noise in enumerate(noises):
            eps = sent(torch.randn(x0.shape, generator=noise), x0)
            with torch.no_grad():
                hits[i].append(f.right(Prediction.of(x0, eps, schedule.at(t[i], like=x0)).x, t[i], cond))
    known = int(torch.cat(guesses).isfinite().sum())
    if not known:
        return None
    by_level, chance = (_mean(h) for h in hits), _mean(guesses)
    levels = (schedule.sigma(t) / schedule.alpha(t)).tolist()
    return Accuracy(tuple(levels), tuple(by_level), chance, known)


def _mean(parts: list[Tensor]) -> float:
    return float(torch.cat(parts).double().nanmean())


def in_words(line: Mapping[str, object], levels: bool = False) -> str:
    """The accuracy in a line of metrics.jsonl, in words; empty where it has none.

    >>> line = {"accuracy_by_level": [0.98, 0.4], "noise_levels": [0.05, 2.0], "chance": 0.1, "judged": 180}
    >>> in_words(line)
    'accuracy by level 98.0 40.0 %'
    >>> in_words(line, levels=True)
    '98.0 % at sigma/alpha 0.05, 40.0 % at 2; chance 10.0 %, of 180 held-out examples'

    Args:
        line: of metrics.jsonl.
        levels: whether to name the levels.
    """
    shares, where = line.get("accuracy_by_level"), line.get("noise_levels")
    if not isinstance(shares, list) or not isinstance(where, list):
        return ""
    if not levels:
        return f"accuracy by level {' '.join(f'{100 * v:.1f}' for v in shares)} %"
    names = [f"sigma/alpha {where[0]:.3g}", *(f"{v:.3g}" for v in where[1:])]
    told = ", ".join(f"{100 * v:.1f} % at {name}" for v, name in zip(shares, names, strict=True))
    chance = line.get("chance")
    guessed = f"{100 * chance:.1f} %" if isinstance(chance, float) and math.isfinite(chance) else "unknown"
    return f"{told}; chance {guessed}, of {line.get('judged')} held-out examples"


def newest(run: Run) -> str:
    """The last accuracy that training has measured, by level, in words; empty where there is none."""
    from reverie.runs import METRICS
    from reverie.training import log

    told = [said for line in log.lines(run.path / METRICS) if (said := in_words(line, levels=True))]
    return told[-1] if told else ""
