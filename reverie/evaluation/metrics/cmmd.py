"""CMMD: a distance of CLIP embeddings (Jayasumana et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.base import Metric, Unfit
from reverie.evaluation.metrics.checks import enough
from reverie.evaluation.metrics.discrepancy import Bell, squared_mmd
from reverie.evaluation.metrics.once import once

BANDWIDTH = 10.0
"""Jayasumana et al. (2024, section 5)."""
SCALE = 1000.0
"""The factor of the published figures."""


@dataclass(frozen=True)
class CMMD(Metric, kind="cmmd"):
    """1000 MMD^2 of embeddings of length 1, with the kernel exp(-|a - b|^2 / (2 10^2)), without bias.

    Jayasumana et al. (2024, equation 4). Their published code takes the same mean with each embedding beside itself
    too, which adds 1000 (1 - mean kernel) (1/N + 1/M), some 5 (1/N + 1/M).
    """

    title = "CMMD"
    on = "none"
    network = "CLIP"
    place = 25

    def check(self, made: Features, real: Features) -> None:
        """Refuse a set without a pair, or an embedding of length 0, which has no direction."""
        enough("cmmd", made, real, 2)
        if not (made.values.any(axis=1).all() and real.values.any(axis=1).all()):
            raise Unfit("cmmd needs embeddings of a length above 0; some are 0")

    def __call__(self, made: Features, real: Features) -> float:
        return SCALE * squared_mmd(_normed(made), _normed(real), Bell(BANDWIDTH))

    def note(self, n: int, m: int, width: int) -> str:
        return "its bandwidth and scale are made for CLIP embeddings: in other features it is comparable with nothing"


def _normed(of: Features) -> Features:
    """The same embeddings, of length 1."""
    return once(of, "length 1", lambda: Features(of.values / np.linalg.norm(of.values, axis=1, keepdims=True)))
