"""Adaptive projected guidance, as settings."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.adaptive_projected import AdaptiveProjected, check_projection
from reverie.guidance.contrast import check_interval
from reverie.guidance.guides.base import Guide


@dataclass(frozen=True)
class AdaptiveProjectedGuide(Guide, kind="adaptive_projected", aliases={"apg": {}}):
    """See `reverie.guidance.AdaptiveProjected`.

    Raises:
        ValueError: a setting outside of its range.
    """

    eta: float = 0.0
    norm: float = 0.0
    momentum: float = 0.0
    interval: tuple[float, float] | None = None
    """sigma / alpha, above the first and up to the second."""

    def __post_init__(self) -> None:
        check_projection(self.eta, self.norm, self.momentum)
        check_interval(self.interval)

    def wrap(self, f: Denoises, scale: float, helper: object | None = None, negative: Cond | None = None) -> Denoises:
        return AdaptiveProjected(
            f, scale, eta=self.eta, norm=self.norm, momentum=self.momentum, interval=self.interval, negative=negative
        )
