"""What a space is: data <-> what the model sees.

A space is fitted on the training split only and stored with the weights.

Letters in shapes: B batch, N examples, ... the shape of one example.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from reverie.config import Part

Stage = Callable[[str], Any]
"""The trained model of a stage of the run that the space belongs to, and the space of its data, by the stage's name."""


class Space(Part, abc.ABC, family="space"):
    """`encode` and `decode` between data (B, ...) and x0 (B, ...)."""

    bounded: ClassVar[bool] = False
    """Whether x0 lies in [-1, 1], so that clipping it there is right."""
    learns: ClassVar[bool] = False
    """Whether `fit` looks at the data."""
    quantum: ClassVar[float] = 0.0
    """The spacing of the grid that data lie on; 0 where they lie on none."""

    @abc.abstractmethod
    def check(self, image: bool) -> None:
        """Refuse data, 8-bit images or arrays, that are not for it.

        Raises:
            ValueError: with what is.
        """

    def bound(self, stage: Stage, shape: tuple[int, ...]) -> Self:
        """The space with what it takes from stages of its run, for examples of `shape`: itself, where that is nothing.

        Raises:
            ValueError: the run has no such stage, or it is of no use for such examples.
        """
        return self

    def opened(self, stage: Stage) -> Space:
        """The space at work: itself, where it needs no stage of its run."""
        return self

    def fit(self, data: Tensor) -> Self:
        """The space for data like these (N, ...): itself, where nothing is fitted."""
        return self

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Of x0, for an example of `shape`: the same, but for latents."""
        return tuple(shape)

    def scale(self, shape: Sequence[int]) -> float:
        """About the sigma / alpha at which it shows what an example of this shape is of: 1, the standard deviation."""
        return 1.0

    @abc.abstractmethod
    def encode(self, data: Tensor) -> Tensor:
        """Data to x0, float32."""

    @abc.abstractmethod
    def decode(self, x: Tensor) -> Tensor:
        """x0 to data."""

    def log_volume(self, shape: Sequence[int]) -> float:
        """log |det dx0/d data| for one example of this shape: what turns densities of x0 into those of data.

        Raises:
            ValueError: a density of x0 says nothing of one of the data here.
        """
        raise ValueError(f"space {self.kind!r} has no log_volume: its densities stay in the model's space, in nats")
