"""Guidance by an image-text pair, as settings."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.clip import ClipGuided, Pairs
from reverie.guidance.guides.base import GuideByRun


@dataclass(frozen=True)
class Embedded:
    """An image-text pair, and what its text side makes of the prompts."""

    pair: Pairs
    text: Tensor
    """(1, E), or (B, E) one for each example."""
    given: Tensor | None = None
    """(1,) or (B,) bool, as `text`: False where there is no text, and nothing leads; None: nowhere."""

    def part(self, first: int, last: int) -> Embedded:
        """The same for examples `first` to `last` - 1 alone."""
        if len(self.text) == 1:
            return self
        return Embedded(self.pair, self.text[first:last], None if self.given is None else self.given[first:last])


@dataclass(frozen=True)
class ClipGuide(GuideByRun, kind="clip"):
    """See `reverie.guidance.ClipGuided`. The other model comes as an `Embedded`; scale 0 is no guidance.

    Raises:
        ValueError: no run.
    """

    neutral = 0.0
    needed = "the folder of an image-text pair's run, which `reverie train ... kind=pair` makes"

    def wrap(self, f: Denoises, scale: float, helper: object | None = None, negative: Cond | None = None) -> Denoises:
        embedded = self.checked(helper, negative)
        if not isinstance(embedded, Embedded):
            raise ValueError(f"guide.kind=clip needs a pair and the embedded prompts; given {type(embedded).__name__}")
        return ClipGuided(f, embedded.pair, embedded.text, scale, embedded.given)
