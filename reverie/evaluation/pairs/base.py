"""What puts images and texts into one space, where a picture lies near its caption.

Letters in shapes: B batch, C channels, H height, W width, E numbers of one embedding.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from reverie.config import Part, Plain
from reverie.evaluation.collection import Collection

EXTRA = "pip install 'reverie[text]'"
"""Brings the packages that read text."""


class OpenedPair(nn.Module, abc.ABC):
    """A pair at work: its networks, ready on a device, in evaluation mode.

    Attributes:
        digest: a hash of its weights.
        about: how images and texts are prepared, and what else the protocol should say.
        block: how many images or texts it takes at a time; fixed, for the last bits of what it makes depend on it.
    """

    block: ClassVar[int] = 32

    def __init__(self, digest: str, about: Mapping[str, Plain] | None = None) -> None:
        super().__init__()
        self.digest, self.about = digest, dict(about or {})

    @abc.abstractmethod
    def images(self, items: Tensor) -> Tensor:
        """Unit vectors (B, E) of images (B, C, H, W) uint8 with C of 1, 3 or 4."""

    @abc.abstractmethod
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (B, E) of B texts."""


class Pair(Part, abc.ABC, family="pair"):
    """The settings of a pair, as they stand in a protocol. A new one is a file in this folder.

    Attributes:
        learns: whether `open` trains it on the captioned real examples.
    """

    learns: ClassVar[bool] = False

    @abc.abstractmethod
    def open(self, real: Collection, device: torch.device | str = "cpu") -> OpenedPair:
        """Make it ready for images like these.

        Args:
            real: real images of the kind that will be judged; those to learn from, with captions, where it `learns`.
            device: where it works.

        Raises:
            ValueError: it is of no use for such examples, or a file it needs is missing or not what it should be.
            ImportError: a package is missing; the message names the extra that brings it.
        """


def unit(x: Tensor) -> Tensor:
    """(B, E) over its length, row by row."""
    return torch.nn.functional.normalize(x, dim=1)
