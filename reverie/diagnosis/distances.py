"""How far sets of examples are from the training examples, by one number that serves all of them.

Letters in shapes: none.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from reverie.evaluation import Collection, Reference, Settings
from reverie.evaluation.extractors import suited
from reverie.evaluation.metrics import from_names
from reverie.training.evaluation import LEARNED, VALUES


@dataclass(frozen=True)
class Distance:
    """One distance of a set of examples from the training examples."""

    title: str
    """Such as KID."""
    extractor: str
    """In whose features."""
    value: float
    error: float | None
    """The standard error of `value`; None where the set is too small for one."""


class Ruler:
    """Measures sets of examples beside the same training examples, in features that suit them.

    As where training is judged: the first features that need not be learnt before; KID, and FID where there are enough
    examples, in those of a network, the sliced Wasserstein distance in others.

    Args:
        real: training examples.
        device: where features are computed.
    """

    def __init__(self, real: Collection, device: torch.device | str = "cpu") -> None:
        known = suited(real)
        extractor = next((each for each in known if not each.learns), known[0])
        metrics = from_names(f"{LEARNED},fid" if extractor.learned else VALUES)
        self._reference = Reference(real, Settings((extractor,), metrics), device=device)
        self._known: dict[str, tuple[Distance, ...]] = {}

    def __call__(self, made: Collection) -> tuple[Distance, ...]:
        """Every distance of these examples that can be measured; the first one is the one to be compared by.

        The same examples are measured once.

        Raises:
            ValueError: fewer than 2 examples, examples of another shape, or with numbers that are not finite.
        """
        if made.digest not in self._known:
            numbers = self._reference.evaluate(made).numbers
            self._known[made.digest] = tuple(Distance(n.title, n.extractor, n.value, n.error) for n in numbers)
        return self._known[made.digest]
