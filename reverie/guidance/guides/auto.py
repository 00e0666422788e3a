"""Autoguidance, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.auto import AutoGuided
from reverie.guidance.guides.base import GuideByRun


@dataclass(frozen=True)
class AutoGuide(GuideByRun, kind="auto"):
    """See `reverie.guidance.AutoGuided`. The other model is a denoiser of the same data.

    Raises:
        ValueError: no run.
    """

    weights: Literal["model", "best"] = "model"
    """Which of its weights are used."""

    needed = "the folder of a weaker model's run: a smaller network, or one trained for less"

    def wrap(self, f: Denoises, scale: float, helper: object | None = None, negative: Cond | None = None) -> Denoises:
        return AutoGuided(f, cast(Denoises, self.checked(helper, negative)), scale)
