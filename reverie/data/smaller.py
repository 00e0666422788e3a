"""Data with fewer pixels than those of another source, for the first stage of a cascade.

Letters in shapes: N examples, C channels, ... one or more axes of space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from reverie.data.base import Data, Examples, Split, groups, joined

BATCH = 1024
"""Examples at a time, so that a memory map stays one."""


@dataclass(frozen=True)
class Smaller(Data, kind="smaller"):
    """The examples of another source, their pixels the means of squares of `factor` of its own pixels.

    That is what a model with `image_condition.kind=low_resolution` of the same factor is told of the larger examples,
    but for the rounding of 8-bit pixels, half to even. Arrays (C, ...) of any axes of space become smaller along all of
    them. Labels, captions, attributes and all else are those of the larger examples, and so is every split of the same
    share and seed: what one stage of a cascade never saw, no stage did.

    Attributes:
        data: the source of the larger examples.
        factor: how many pixels of a side are one.

    Raises:
        ValueError: a factor below 2.
    """

    data: Data
    factor: int = 2

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ValueError(f"smaller needs a factor of at least 2; given {self.factor}")

    def load(self) -> Examples:
        """The smaller examples.

        Raises:
            ValueError: as for `smaller`, and as for the larger source.
        """
        large = self.data.load()
        _check(large.shape, self.factor, any(f.name == "size" for f in fields(self.data)))  # type: ignore[arg-type]
        return smaller(large, self.factor)

    def split(self, examples: Examples, validation: float, seed: int) -> Split:
        """That of the larger examples, which may differ where smaller ones are the same.

        The larger source is asked how it splits examples of which those are the same that have the same `related`.

        Raises:
            ValueError: as for the larger source.
        """
        assert examples.related is not None
        return self.data.split(replace(examples, items=examples.related[:, None], image=False), validation, seed)


def smaller(examples: Examples, factor: int) -> Examples:
    """Examples with the means of squares of their pixels.

    Their `related` are the larger ones that have to stay on one side of a split: of the same bytes, or related.

    Raises:
        ValueError: sides that the factor does not divide, or none at all.
    """
    _check(examples.shape, factor)
    related = joined(groups(examples.items), examples.related)
    return replace(examples, items=means(examples.items, factor), related=related)


def _check(shape: tuple[int, ...], factor: int, sized: bool = False) -> None:
    """Refuse examples that cannot be made smaller; where their source has a size, say one that fits."""
    sides = shape[1:]
    if not sides:
        raise ValueError(f"smaller needs examples with a channel and sides, (C, H, W) or others; given {shape}")
    if not any(side % factor for side in sides):
        return
    fitting = [math.ceil(side / factor) * factor for side in sides]
    given, right = ("x".join(map(str, each)) for each in (sides, fitting))
    chosen = fitting[0] if len(set(fitting)) == 1 else fitting
    size = f"; of the larger ones set data.size={chosen}, or data.data.size in a run of smaller ones" if sized else ""
    raise ValueError(
        f"smaller by a factor of {factor} needs sides that it divides, such as {right}; given {given}{size}"
    )


def means(items: np.ndarray, factor: int) -> np.ndarray:
    """(N, C, ...) to (N, C, ... / factor), the means of squares; integers are rounded, half to even.

    >>> means(np.array([[[1, 2, 4, 4]]], np.uint8), 2).tolist()
    [[[2, 4]]]
    """
    sides = [side // factor for side in items.shape[2:]]
    apart = [length for side in sides for length in (side, factor)]
    axes = tuple(range(3, 3 + 2 * len(sides), 2))
    small = np.empty((*items.shape[:2], *sides), items.dtype)
    for first in range(0, len(items), BATCH):
        part = items[first : first + BATCH]
        mean = part.reshape(*part.shape[:2], *apart).mean(axes, dtype=np.float64)
        small[first : first + BATCH] = np.rint(mean) if np.issubdtype(items.dtype, np.integer) else mean
    return small
