"""Points in the plane: three laws that a picture shows whole, made from a seed.

Letters in shapes: N points. z is standard normal noise in the plane.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import numpy as np

from reverie.data.base import Data, Distance, Examples


@dataclass(frozen=True)
class Points(Data, abc.ABC):
    """`count` independent draws of a law in the plane, (N, 2) float32, the same for the same seed.

    They are drawn in float64 from a counter-based generator (Philox; Salmon et al., 2011), and no file is read.

    Attributes:
        count: N.
        seed: each seed makes its own points.

    Raises:
        ValueError: fewer than 1 point, or a negative seed.
    """

    count: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1 or self.seed < 0:
            raise ValueError(
                f"{self.kind} needs count of at least 1 and seed of at least 0; "
                f"given count={self.count}, seed={self.seed}"
            )

    @abc.abstractmethod
    def draw(self, random: np.random.Generator) -> Examples:
        """N examples of the law."""

    def load(self) -> Examples:
        """The points."""
        return self.draw(np.random.Generator(np.random.Philox(np.random.SeedSequence(self.seed))))


@dataclass(frozen=True)
class Noisy(Points):
    """Points on curves, with normal noise of standard deviation `noise` on both axes.

    Raises:
        ValueError: a noise that is negative or not finite.
    """

    noise: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"{self.kind} needs a noise of at least 0; given {self.noise}")

    def _around(self, curve: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return (curve + self.noise * random.standard_normal(curve.shape)).astype(np.float32)


@dataclass(frozen=True)
class SwissRoll(Noisy, kind="swissroll"):
    """x = θ (cos θ, sin θ) + noise z, θ uniform in [3π/2, 9π/2].

    The first and the last axis of the roll that scikit-learn makes; the data of the first experiment of
    Sohl-Dickstein et al. (2015, figure 1). Arms lie 2π apart.
    """

    noise: float = 0.5

    def features(self, items: np.ndarray) -> np.ndarray:
        """The points themselves."""
        return items

    def distances(self) -> tuple[Distance, ...]:
        """How far points lie from the roll, root mean square; that of the noise where they are of the law."""
        return (Distance("off_roll", "distance from the roll", _off_roll),)

    def draw(self, random: np.random.Generator) -> Examples:
        """N points of the roll."""
        angle = random.uniform(1.5 * math.pi, 4.5 * math.pi, (self.count, 1))
        return Examples(self._around(angle * np.concatenate([np.cos(angle), np.sin(angle)], 1), random))


def _off_roll(made: np.ndarray, real: np.ndarray) -> float:
    """To the nearest point of a fine line along the roll."""
    from scipy.spatial import cKDTree

    angle = np.linspace(1.5 * math.pi, 4.5 * math.pi, 20_000)
    roll = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1)
    nearest, _ = cKDTree(roll).query(made)
    return float(np.sqrt(np.mean(nearest**2)))


@dataclass(frozen=True)
class TwoMoons(Noisy, kind="two_moons"):
    """x = (cos θ, sin θ) + noise z or x = (1 - cos θ, 1/2 - sin θ) + noise z, θ uniform in [0, π].

    Two half circles that interlock, as scikit-learn makes them; their classes are `upper` and `lower`,
    drawn with equal chance.
    """

    noise: float = 0.1

    def draw(self, random: np.random.Generator) -> Examples:
        """N points of the moons, and to which of them each belongs."""
        label = random.integers(0, 2, self.count)
        angle = random.uniform(0, math.pi, (self.count, 1))
        upper = np.concatenate([np.cos(angle), np.sin(angle)], 1)
        curve = np.where(label[:, None] == 0, upper, [1.0, 0.5] - upper)
        return Examples(self._around(curve, random), label.astype(np.int64), ("upper", "lower"))


@dataclass(frozen=True)
class Checkerboard(Points, kind="checkerboard"):
    """x uniform on the 8 dark squares of a board of 4 x 4, each of side 1, on [-2, 2]^2.

    A square is dark where its column and its row, counted from the lower left, are both even or both odd.
    """

    def draw(self, random: np.random.Generator) -> Examples:
        """N points on the board."""
        column = random.integers(0, 4, self.count)
        row = 2 * random.integers(0, 2, self.count) + column % 2
        corner = np.stack([column, row], 1) - 2.0
        return Examples((corner + random.random((self.count, 2))).astype(np.float32))

    def features(self, items: np.ndarray) -> np.ndarray:
        """The points themselves."""
        return items

    def distances(self) -> tuple[Distance, ...]:
        """The share of points that lie off the dark squares."""
        return (Distance("off_board", "off the dark squares", _off_board, unit="%"),)


def _off_board(made: np.ndarray, real: np.ndarray) -> float:
    column, row = np.floor(made).T + 2
    dark = (column % 2 == row % 2) & (np.abs(made) < 2).all(1)
    return float(1 - dark.mean())
