"""Classifier-free guidance, as settings."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.classifier_free import ClassifierFree, check_rescale
from reverie.guidance.contrast import check_interval
from reverie.guidance.guides.base import Guide


@dataclass(frozen=True)
class ClassifierFreeGuide(Guide, kind="classifier_free", aliases={"cfg": {}}):
    """See `reverie.guidance.ClassifierFree`.

    Raises:
        ValueError: an interval that holds no level, or a rescale outside [0, 1].
    """

    interval: tuple[float, float] | None = None
    """sigma / alpha, above the first and up to the second."""
    rescale: float = 0.0

    def __post_init__(self) -> None:
        check_interval(self.interval)
        check_rescale(self.rescale)

    def wrap(self, f: Denoises, scale: float, helper: object | None = None, negative: Cond | None = None) -> Denoises:
        return ClassifierFree(f, scale, interval=self.interval, rescale=self.rescale, negative=negative)
