"""Features and distances that a kind of data brings in its own file: `Data.features`, `Data.distances`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from reverie.config import Plain
from reverie.data import Data
from reverie.data.base import Distance
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors.base import Extractor, Features, Opened
from reverie.evaluation.metrics.base import Metric, Unfit


class Described(Opened):
    """The features of a kind of data."""

    def __init__(self, data: Data, width: int) -> None:
        super().__init__(width, about={"resize": "none", "quantization": "none"})
        self.data = data

    def both(self, items: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self.data.features(items.cpu().numpy())
        assert found is not None
        return torch.from_numpy(np.asarray(found, np.float64)), None


@dataclass(frozen=True)
class OwnFeatures(Extractor):
    """The features that a kind of data brings."""

    kind: ClassVar[str] = "own"
    learned: ClassVar[bool] = False
    data: Data

    def open(self, real: Collection, device: torch.device | str = "cpu") -> Opened:
        found = self.data.features(real.items[:2])
        if found is None:
            raise ValueError(f"data of kind {self.data.kind} bring no features of their own")
        return Described(self.data, np.asarray(found).shape[1])


@dataclass(frozen=True)
class OwnDistance(Metric):
    """A number that a kind of data brings."""

    distance: Distance = field(repr=False)

    @property
    def name(self) -> str:
        return self.distance.name

    @property
    def protocol(self) -> dict[str, Plain]:
        """Its name; the settings are those of the data."""
        return {"kind": self.name}

    @property
    def title(self) -> str:  # type: ignore[override]
        """As the data call it."""
        return self.distance.title

    @property
    def better(self) -> Literal["lower", "higher"]:  # type: ignore[override]
        """As the data say."""
        return self.distance.better

    @property
    def unit(self) -> Literal["", "%"]:  # type: ignore[override]
        """As the data say."""
        return self.distance.unit

    def check(self, made: Features, real: Features) -> None:
        if not (len(made) and len(real)):
            raise Unfit(f"{self.name} needs samples and real examples; given {len(made)} and {len(real)}")

    def __call__(self, made: Features, real: Features) -> float:
        return float(self.distance.measure(made.values, real.values))


def own(real: Collection) -> tuple[tuple[Extractor, tuple[Metric, ...]], ...]:
    """What the data of these examples bring: an extractor and its metrics, or nothing."""
    data = real.data
    if data is None or not data.distances() or data.features(real.items[:2]) is None:
        return ()
    return ((OwnFeatures(data), tuple(OwnDistance(d) for d in data.distances())),)
