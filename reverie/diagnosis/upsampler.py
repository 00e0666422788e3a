"""Whether an upsampler uses the small pictures that it is to enlarge, at each level of noise on them.

Letters in shapes: N examples, C channels, ... axes of space.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reverie.diagnosis.found import Found, Row, mean_and_error, pm
from reverie.image_conditions import LowResolution, Shown
from reverie.tensors import streams

SURE = 3
"""Standard errors by which a margin is no chance: 1 in 700."""
BARELY, HALF = 0.1, 0.5
"""Shares of the margin of true pictures: below the one an upsampler ignores its input, though not quite, and below the
other it follows it in less than a quarter of the variance."""
LEFT = 0.2
"""Margin of true pictures below which noise has left too little to be used."""
QUARTERS = 4
SPOILING = 3
"""Keeps the noise that is put on small pictures apart from that of samples."""


@dataclass(frozen=True)
class Agreement:
    """Correlations of N pictures with small ones, each over all numbers of a picture less their mean over the N."""

    own: float
    """With the one that belongs to each, on average."""
    shuffled: float
    """With those that belong to others, all of them: what shuffling them gives on average."""
    margin: float
    """own - shuffled."""
    error: float
    """The standard error of the margin, from the differences example by example."""


@dataclass(frozen=True)
class Level:
    """One level of noise on the small pictures."""

    level: float
    """0 for none."""
    made: Agreement
    """Of outputs, made small, with the inputs as they were given, noise included."""
    true: Agreement
    """Of the true small pictures with the same inputs: what a perfect upsampler has."""

    @property
    def usable(self) -> bool:
        """Whether noise has left something to be used."""
        return self.true.margin > max(LEFT, SURE * self.true.error)

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if not self.usable:
            return "nothing left to use"
        if self.made.margin <= max(SURE * self.made.error, BARELY * self.true.margin):
            return "ignores it"
        return "follows it in part" if self.made.margin < HALF * self.true.margin else "follows it"


@dataclass(frozen=True)
class UpsamplerFound(Found):
    """How far the outputs of an upsampler agree with its inputs."""

    n: int
    steps: int
    """Of the sampler."""
    levels: tuple[Level, ...]
    """By level of noise, from none on."""

    @property
    def ignores(self) -> bool:
        """Whether the output has nothing to do with an input without noise."""
        return self.levels[0].verdict == "ignores it"

    @property
    def faulty(self) -> bool:
        return self.levels[0].usable and self.levels[0].verdict != "follows it"

    @property
    def seen(self) -> str:
        told = [f"{each.made.own:.2f} at {each.level:.3g}" for each in self.levels]
        first = self.levels[0].made
        return f"{', '.join(told)}; shuffled {first.shuffled:.2f}, margin {pm(first.margin, first.error)}"

    @property
    def words(self) -> str:
        first = self.levels[0]
        told = (
            f"correlation of outputs with their own small pictures less that with others' is "
            f"{pm(first.made.margin, first.made.error)}, and {first.true.margin:.2g} for true pictures"
        )
        if self.ignores:
            return f"the upsampler is at fault: it ignores its small picture ({told}); train it longer"
        if self.faulty:
            return f"the upsampler is at fault: it follows its small picture in part ({told}); train it longer"
        return f"the upsampler follows its small picture: {told}"

    def rows(self) -> tuple[Row, ...]:
        return tuple(
            (
                f"agreement with small pictures at noise {each.level:.3g}",
                f"{each.made.own:.3f}, shuffled {each.made.shuffled:.3f}, margin "
                f"{pm(each.made.margin, each.made.error)}: {each.verdict}",
                f"{each.true.own:.3f}, true pictures",
            )
            for each in self.levels
        )


def agreement(made: Tensor, small: Tensor) -> Agreement:
    """How made (N, ...) correlates with small (N, ...), row by row and crosswise.

        r_ij = <a_i, b_j> / (|a_i| |b_j|),   a and b the rows less their means over the N
        own = mean_i r_ii,   shuffled = mean over i != j of r_ij,   margin = own - shuffled

    What is the same in all pictures does not count. A row without any variation correlates with nothing: r = 0.

    Raises:
        ValueError: fewer than 3 rows, of which the mean of all would leave nothing to compare.
    """
    if len(made) < 3:
        raise ValueError(f"agreement needs at least 3 pictures; given {len(made)}")
    a, b = (torch.nn.functional.normalize(_centred(v), dim=1) for v in (made, small))
    r = a @ b.T
    own, n = r.diagonal(), len(r)
    others = (r.sum(1) - own) / (n - 1)
    margin, error = mean_and_error(own - others)
    return Agreement(float(own.mean()), float(others.mean()), margin, error)


def _centred(v: Tensor) -> Tensor:
    flat = v.detach().double().cpu().flatten(1)
    return flat - flat.mean(0)


def levels_of(condition: LowResolution) -> tuple[float, ...]:
    """0, 1/4, 1/2, 3/4 and 1 times the noise of training; 0 alone where there is none.

    >>> levels_of(LowResolution(noise=0.5))
    (0.0, 0.125, 0.25, 0.375, 0.5)
    """
    return tuple(condition.noise * k / QUARTERS for k in range(QUARTERS + 1)) if condition.noise else (0.0,)


def upsampler(
    draw: Callable[[Shown], Tensor], condition: LowResolution, x0: Tensor, keys: Sequence[tuple[int, ...]], steps: int
) -> UpsamplerFound:
    """Whether what is drawn follows the small pictures of held-out examples.

    Each level has the same noise on the pictures.

    Args:
        draw: samples (N, C, ...) of the upsampler, told these images and levels and nothing else.
        condition: what it is told.
        x0: (N, C, ...), held-out examples in the model's space.
        keys: of the noise on each small picture.
        steps: of the sampler, to be told.
    """
    small = condition.small(x0)
    eps = streams([(*key, SPOILING) for key in keys])(small)
    found = []
    for level in levels_of(condition):
        angle = torch.tensor(torch.pi / 2 * level, dtype=small.dtype)
        given = angle.cos() * small + angle.sin() * eps if level else small
        made = condition.small(draw(condition.told(small, level, eps if level else None)))
        found.append(Level(level, agreement(made, given), agreement(small, given)))
    return UpsamplerFound(len(x0), steps, tuple(found))
