"""Autoguidance, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.auto import AutoGuided
from reverie.guidance.guides.base import Guide, check_run, checked


@dataclass(frozen=True)
class AutoGuide(Guide, kind="auto"):
    """See `reverie.guidance.AutoGuided`. The other model is a denoiser of the same data.

    Raises:
        ValueError: no run.
    """

    run: str
    """The folder of the weaker model's run."""
    weights: Literal["model", "best"] = "model"
    """Which of its weights are used."""

    needed = "the folder of a weaker model's run: a smaller network, or one trained for less"

    def __post_init__(self) -> None:
        check_run(self)

    @property
    def needs(self) -> str:
        return self.run

    def wrap(self, f: Denoises, scale: float, helper: object | None = None, negative: Cond | None = None) -> Denoises:
        return AutoGuided(f, cast(Denoises, checked(self, helper, negative)), scale)
