"""How much of the distance from the data each stage brings: sets of examples that went through ever more of them.

    held-out examples  ->  through the autoencoder  ->  enlarged from true small pictures  ->  samples of all stages

What a stage brings is the distance of the set that went through it less that of the set before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reverie.diagnosis.distances import Ruler
from reverie.diagnosis.found import Found, Row, pm
from reverie.evaluation import Collection

FLOOR = "floor"
"""The name of what held-out examples have, to which no stage has done anything."""
SURE = 2
"""Standard errors above which a share is no chance, 1 in 44."""


@dataclass(frozen=True)
class Step:
    """The distance of a set of examples from training examples."""

    stage: str
    """The last one that it went through; `FLOOR` for the first set, which went through none."""
    what: str
    """The examples, in words."""
    value: float
    error: float | None


@dataclass(frozen=True)
class Share:
    """What one stage brings."""

    stage: str
    value: float
    error: float | None
    """As of two sets that know nothing of each other: too large, if anything, where they are of the same examples."""

    @property
    def sure(self) -> bool:
        """Whether that is more than chance."""
        return self.error is not None and self.value > SURE * self.error


@dataclass(frozen=True)
class Shares(Found):
    """Distances from training examples, step by step."""

    title: str
    """Of the distance, such as KID."""
    extractor: str
    """In whose features."""
    n: int
    """Examples of each set."""
    steps: tuple[Step, ...]

    def line(self) -> dict[str, object]:
        return {**super().line(), "shares": [vars(part) for part in self.parts]}

    @property
    def parts(self) -> tuple[Share, ...]:
        """What each stage brings; with the floor they add up to the distance of the last set."""
        found = []
        for before, after in zip(self.steps, self.steps[1:], strict=False):
            known = before.error is not None and after.error is not None
            error = math.hypot(before.error or 0.0, after.error or 0.0) if known else None
            found.append(Share(after.stage, after.value - before.value, error))
        return tuple(found)

    @property
    def worst(self) -> Share | None:
        """The largest share, where it is no chance."""
        found = max(self.parts, key=lambda part: part.value, default=None)
        return found if found is not None and found.sure else None

    @property
    def faulty(self) -> bool:
        """Never: some stage always has the largest share."""
        return False

    @property
    def seen(self) -> str:
        told = [f"{part.stage} {pm(part.value, part.error)}" for part in self.parts]
        most = f": most by the {self.worst.stage}" if self.worst is not None else ""
        return f"{self.title} {self.steps[-1].value:.3g}, floor {self.steps[0].value:.3g}; {', '.join(told)}{most}"

    @property
    def words(self) -> str:
        first, last = self.steps[0], self.steps[-1]
        total = last.value - first.value
        told = (
            f"{self.title} {pm(last.value, last.error)} of {last.what}, {pm(first.value, first.error)} of {first.what}"
        )
        if self.worst is None:
            return f"no stage brings more than chance does: {told}"
        share = self.worst.value / total if total > 0 else 1.0
        most = "all" if share >= 1 else f"{share:.0%}"
        return (
            f"{told}: the {self.worst.stage} brings {most} of the difference, {pm(self.worst.value, self.worst.error)}"
        )

    def rows(self) -> tuple[Row, ...]:
        brought = [None, *self.parts]
        return tuple(
            (
                f"{self.title} of {step.what}, in {self.extractor}",
                pm(step.value, step.error),
                "the floor" if part is None else f"of which the {part.stage} brings {pm(part.value, part.error)}",
            )
            for step, part in zip(self.steps, brought, strict=True)
        )


def shares(ruler: Ruler, sets: Sequence[tuple[str, str, Callable[[], Collection]]]) -> Shares:
    """The distances of sets of as many examples each.

    Args:
        ruler: of the training examples.
        sets: of each the stage that it went through last, what it is in words, and what makes it; held-out examples,
            of stage `FLOOR`, first.

    Raises:
        ValueError: the first set is not the floor, or the sets are not of as many examples.
    """
    if not sets or sets[0][0] != FLOOR:
        raise ValueError(f"the first set is the floor, of stage {FLOOR!r}; given {[stage for stage, *_ in sets]}")
    steps, n, title, extractor = [], 0, "", ""
    for stage, what, make in sets:
        made = make()
        if n and len(made) != n:
            raise ValueError(f"distances are compared of as many examples each; given {n} and {len(made)} {what}")
        found, n = ruler(made)[0], len(made)
        title, extractor = found.title, found.extractor
        steps.append(Step(stage, what, found.value, found.error))
    return Shares(title, extractor, n, tuple(steps))
