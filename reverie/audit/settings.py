"""How an audit is made."""

from __future__ import annotations

from dataclasses import dataclass

from reverie.config import Plain, to_data
from reverie.evaluation.extractors import Extractor

MOST = 1000
"""Samples drawn from a run at the most, unless a number is asked for."""


@dataclass(frozen=True)
class Settings:
    """How an audit is made.

    Raises:
        ValueError: a number out of its range, named.
    """

    n: int | None = None
    """Samples of a run; as many as there are held-out examples, from 256 to `MOST`, unless given."""
    level: float = 0.01
    """Probability that an honest model is said to memorise, by all tests together."""
    chance: float = 0.01
    """The share of held-out examples that are as near to a training example as what is called a near-copy."""
    tolerance: float = 0.1
    """How far a share may lie beyond what is expected before it counts: samples of a model that was fitted at all are a
    little closer to its training examples than to others."""
    leak: float = 0.25
    """How far the area of membership may lie beyond one half before it counts: half way to certainty. Losses are lower
    on training examples long before samples show anything of them."""
    neighbours: int = 20
    """The next nearest examples, by whose median distance the nearest one's is measured."""
    most: int = 2000
    """Held-out examples that are used, and of the pool of the two halves each."""
    members: int = 500
    """Examples of either kind whose losses are compared."""
    levels: int = 8
    """Noise levels of these losses: equal shares of the loss's own distribution of times."""
    draws: int = 4
    """Draws of the noise at each level, the same for all examples."""
    permutations: int = 9999
    attacks: int = 500
    """Guesses that are to single out a record of a table."""
    least: int = 50
    """Held-out examples without which nothing is decided."""
    flip: bool | None = None
    """Whether mirrored training images count as training images; as in training unless given."""
    extractors: tuple[Extractor, ...] | None = None
    """In whose features near-copies are sought, besides the values themselves; one that suits unless given."""
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {"neighbours": 2, "most": 2, "members": 2, "levels": 1, "draws": 1, "permutations": 99, "attacks": 1}
        for name, least in {**counts, "least": 2, "seed": 0, **({} if self.n is None else {"n": 2})}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}; given {getattr(self, name)}")
        for name in ("level", "chance"):
            if not 0 < getattr(self, name) < 0.5:
                raise ValueError(f"{name} must lie between 0 and 0.5; given {getattr(self, name)}")
        for name in ("tolerance", "leak"):
            if not 0 <= getattr(self, name) < 0.5:
                raise ValueError(f"{name} must be at least 0 and below 0.5; given {getattr(self, name)}")

    def told(self) -> dict[str, Plain]:
        """What a protocol says of them."""
        return {k: v for k, v in to_data(self).items() if k not in ("n", "extractors", "flip")}
