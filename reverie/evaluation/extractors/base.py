"""What turns examples into features, in which sets of examples are compared.

Letters in shapes: N examples, B a batch of them, F features, K classes, ... one example.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from reverie.config import Part, Plain
from reverie.evaluation.collection import Collection


@dataclass(frozen=True, eq=False)
class Features:
    """What an extractor makes of N examples.

    Attributes:
        values: (N, F) float64.
        probabilities: (N, K) float64 of K classes, each row of sum 1, where the extractor tells classes apart.
        labels: (N,) the class that each example is of, or was asked to be, as numbered by the extractor where it
            knows the classes by name; None where that is unknown.
    """

    values: np.ndarray
    probabilities: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.values)

    def take(self, rows: np.ndarray | slice) -> Features:
        """Those of some examples."""
        some = (None if a is None else a[rows] for a in (self.probabilities, self.labels))
        return Features(self.values[rows], *some)


class Opened(nn.Module, abc.ABC):
    """An extractor at work: its network, ready on a device, in evaluation mode.

    It is a module from examples to features, so that it can be given as `feature` to the metrics of
    torchmetrics.

    Attributes:
        width: F.
        num_features: F, under the name by which torchmetrics asks for it.
        digest: a hash of its weights, empty where it has none.
        about: how examples are prepared, for the protocol: `resize`, `quantization` and what else there is to say.
        classes: names of the K classes that it tells apart; empty if it does not, or where they have no names.
        block: how many examples it takes at a time; fixed, for the last bits of a network's output depend on it.
    """

    block: ClassVar[int] = 32

    def __init__(
        self, width: int, digest: str = "", about: Mapping[str, Plain] | None = None, classes: tuple[str, ...] = ()
    ) -> None:
        super().__init__()
        self.width = self.num_features = width
        self.digest, self.about, self.classes = digest, dict(about or {}), classes

    @abc.abstractmethod
    def both(self, items: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features (B, F), and probabilities (B, K) or None, of items (B, ...) as data: images are uint8.

        Probabilities are float64, and on the CPU: not every device has such numbers.
        """

    def forward(self, items: Tensor) -> Tensor:
        """Features (B, F) of items (B, ...) as data: images are uint8."""
        return self.both(items)[0]


class Extractor(Part, abc.ABC, family="extractor"):
    """The settings of an extractor, as they stand in a protocol. A new one is a file in this folder.

    Attributes:
        image: True where it takes images alone, False where arrays that are none, None where both.
        learned: whether its features come from a network, so that Fréchet and kernel distances in them are sensible.
        learns: whether `open` trains it on labelled examples.
    """

    image: ClassVar[bool | None] = True
    learned: ClassVar[bool] = True
    learns: ClassVar[bool] = False

    def check(self, real: Collection) -> None:
        """Refuse examples of a kind that it does not take, and none at all.

        Raises:
            ValueError: they are arrays where it takes images, or the other way round.
        """
        if self.image is not None and self.image is not real.image:
            takes, given = ("images" if image else "arrays" for image in (self.image, real.image))
            raise ValueError(
                f"the extractor {self.kind} takes {takes}, and {real.source} holds {given}; try another one"
            )
        if not len(real):
            raise ValueError(f"the extractor {self.kind} needs real examples, and {real.source} holds none")

    @abc.abstractmethod
    def open(self, real: Collection, device: torch.device | str = "cpu") -> Opened:
        """Make it ready for examples like these.

        Args:
            real: real examples of the kind that will be judged; those to learn from, where it `learns`.
            device: where it works.

        Raises:
            ValueError: it is of no use for such examples, or a file it needs is missing or not what it should be.
            ImportError: a package is missing; the message names the extra that brings it.
        """
