"""Strided chains: some knots of each section of a chain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, repeat

import torch
from torch import Tensor

from reverie.grids.base import Grid, check_steps, ended
from reverie.schedules import Schedule


@dataclass(frozen=True)
class Sections(Grid, kind="sections"):
    """Of a chain of T steps, those that guided-diffusion takes for its `timestep_respacing`; then 0.

    "10,15,20" (Nichol & Dhariwal, 2021, released code): the chain's indices 0 ... T - 1 are divided into as many
    sections of equal length, the first ones one longer where T does not divide; each gives as many indices as its
    number says, from its first to its last, at even distances rounded to whole ones. The first section is the one
    next to the data. "ddim50": the indices 0, k, 2 k, ... for the smallest stride k that gives exactly 50 (Song et
    al., 2021, their "linear" choice).

    Index i is t = (i + 1) / T. T is `total`, or else the schedule's own number of knots, or 1000.

    Raises:
        ValueError: text of neither form, total < 1, a section with more steps than it has knots, or no whole stride
            with exactly that many steps; the last two when called, if T is the schedule's.
    """

    sections: str | int = "50"
    """A single number may be written without quotes."""
    total: int | None = None

    def __post_init__(self) -> None:
        if self.total is not None and self.total < 1:
            raise ValueError(f"Sections needs total >= 1; given {self.total}")
        for count in self._counts():
            check_steps("Sections", count)
        if self.total is not None:
            self._indices(self.total)

    @property
    def _strided(self) -> bool:
        return str(self.sections).startswith("ddim")

    def _counts(self) -> list[int]:
        parts = str(self.sections).removeprefix("ddim").split(",")
        if not all(part.strip().isdecimal() for part in parts) or (self._strided and len(parts) > 1):
            raise ValueError(
                f'Sections takes numbers of steps such as "10,15,20", or a word as "ddim50"; given {self.sections!r}'
            )
        return [int(part) for part in parts]

    def _indices(self, total: int) -> list[int]:
        """Of the chain, rising."""
        counts = self._counts()
        if self._strided:
            (count,) = counts
            found = (k for k in range(1, total + 1) if -(-total // k) == count)
            stride = next(found, None)
            if stride is None:
                near = sorted({-(-total // k) for k in range(1, total + 1)}, key=lambda n: (abs(n - count), n))[:2]
                raise ValueError(
                    f"no whole stride takes exactly {count} steps of a chain of {total}; ddim{near[0]} "
                    f"would do, or the section {count}, if it is not more than {total}"
                )
            return list(range(0, total, stride))
        size, longer = divmod(total, len(counts))
        sizes = [size + (i < longer) for i in range(len(counts))]
        indices: list[int] = []
        for first, length, count in zip(accumulate(sizes, initial=0), sizes, counts, strict=False):
            if count > length:
                raise ValueError(
                    f"a section of {length} of the {total} knots of the chain has no {count} steps; given "
                    f"sections={self.sections!r}"
                )
            apart = 1.0 if count == 1 else (length - 1) / (count - 1)
            # Added up, not multiplied: rounding must fall as it does in the published code.
            indices += [first + round(place) for place in accumulate(repeat(apart, count - 1), initial=0.0)]
        return indices

    def __call__(self, schedule: Schedule) -> Tensor:
        total = self.total or schedule.knots or 1000
        indices = torch.tensor(self._indices(total), dtype=torch.float64)
        return ended((indices.flip(0) + 1) / total)

    def with_steps(self, steps: int) -> Sections:
        """Strides stay strides; sections share the steps as they do now, each with one at least while they last."""
        check_steps("Sections", steps)
        if self._strided:
            return replace(self, sections=f"ddim{steps}")
        counts = self._counts()[:steps]
        places = [steps * part / sum(counts) for part in accumulate(counts, initial=0)]
        ends = [round(place) for place in places]
        shared = [max(b - a, 0) for a, b in pairwise(ends)]
        for i, count in enumerate(shared):  # none may go without
            if count == 0:
                shared[i] = 1
                shared[shared.index(max(shared))] -= 1
        return replace(self, sections=",".join(str(n) for n in shared))
