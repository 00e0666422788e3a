"""Classifier guidance, as settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.classifier import ClassifierGuided, Classifies
from reverie.guidance.guides.base import GuideByRun


@dataclass(frozen=True)
class ClassifierGuide(GuideByRun, kind="classifier"):
    """See `reverie.guidance.ClassifierGuided`. The other model is a `Classifies`; scale 0 is no guidance.

    Raises:
        ValueError: no run.
    """

    neutral = 0.0
    needed = "the folder of a classifier's run, which `reverie train ... kind=classifier` makes"

    def wrap(self, f: Denoises, scale: float, helper: object | None = None, negative: Cond | None = None) -> Denoises:
        return ClassifierGuided(f, cast(Classifies, self.checked(helper, negative)), scale)
