"""A look at the data before training on it: counts, ranges, captions, duplicates, damage, and a picture.

Letters in shapes: N examples, C channels (the axis after N), D numbers, ... one example.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from reverie.data.base import Attribute, Data, Examples, Skipped, groups
from reverie.data.captioned import Captions, attribute_line, captions, with_caption
from reverie.data.columns import LeftOut
from reverie.files import atomic
from reverie.pictures import save_png, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLAT = 4
"""A picture is nearly constant when no channel varies by more than this many of its 255 levels."""

LARGEST = 128
"""Longer side of a picture on a contact sheet; larger ones are reduced."""

FEW = 16
"""An example of one axis is a vector when it has at most so many numbers, else a series of one channel."""

MOST_CAPTIONED = 36
"""Pictures with captions on a contact sheet without classes; they take more room than others."""

MOST_ROWS = 24
"""Classes on a contact sheet; of more, evenly spaced ones are shown."""


@dataclass(frozen=True)
class Look:
    """What `look` found.

    Attributes:
        kind: of the data.
        count: N.
        shape: of one example.
        dtype: name of the numbers' type.
        image: whether they are pictures.
        low, high, mean, std: of every channel (of every number of a vector), over all examples
            and positions, in the data's units.
        labels: examples a class, in the order of the classes; empty without labels.
        duplicates: groups of examples of identical bytes, each by the names of its members.
        flat: names of pictures that are nearly constant, or of examples that are constant.
        skipped: damaged files.
        train, validation: sizes of the split.
        captions: how many, how long.
        attributes: what else is known of every example.
        troubles: what is wrong with captions and attributes.
        left_out: columns that are no attributes.
    """

    kind: str
    count: int
    shape: tuple[int, ...]
    dtype: str
    image: bool
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: dict[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    flat: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    train: int
    validation: int
    captions: Captions
    attributes: tuple[Attribute, ...]
    troubles: tuple[Skipped, ...]
    left_out: tuple[LeftOut, ...]

    def lines(self) -> list[str]:
        """The findings as lines of text, long lists cut short."""
        spare = sum(len(group) - 1 for group in self.duplicates)
        damage = [f"{s.path} ({s.reason})" for s in self.skipped]
        wrong, unused = ([f"{s.path}: {s.reason}" for s in said] for said in (self.troubles, self.left_out))
        ranges = [
            f"{low:.4g} to {high:.4g}, mean {mean:.4g}, std {std:.4g}"
            for low, high, mean, std in zip(self.low, self.high, self.mean, self.std, strict=True)
        ]
        return [
            f"data        {self.kind}: {self.count:,} {'images' if self.image else 'examples'} of shape "
            f"{' x '.join(map(str, self.shape))}, {self.dtype}",
            f"split       {self.train:,} to train, {self.validation:,} to validate",
            f"values      {_cut(ranges, '; ', 4)}",
            f"classes     {_cut([f'{k} ({n:,})' for k, n in self.labels.items()]) or 'none'}",
            f"duplicates  {_count(spare, 'spare copy', 'spare copies')} in {_count(len(self.duplicates), 'group')}"
            + (f": {_cut([' = '.join(g[:4]) for g in self.duplicates], '; ', 3)}" if spare else ""),
            f"constant    {len(self.flat):,}" + (f": {_cut(self.flat, most=5)}" if self.flat else ""),
            f"damaged     {len(self.skipped):,}" + (f": {_cut(damage, '; ', 5)}" if damage else ""),
            f"captions    {self.captions.line()}",
            *[f"attribute   {attribute_line(attribute)}" for attribute in self.attributes],
            *([f"left out    {_cut(unused, '; ', 5)}"] if unused else []),
            *([f"troubles    {len(wrong):,}: {_cut(wrong, '; ', 5)}"] if wrong else []),
        ]


def _count(n: int, one: str, several: str = "") -> str:
    """In words: 1 group, 2 groups."""
    return f"{n:,} {one if n == 1 else several or one + 's'}"


def _cut(texts: Sequence[str], joint: str = ", ", most: int = 20) -> str:
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return joint.join([*texts[:most], *more])


def look(data: Data, validation: float = 0.1, seed: int = 0, examples: Examples | None = None) -> Look:
    """Load the data and measure it.

    Args:
        data: the source.
        validation: share for validation, in [0, 1), as the training would use it.
        seed: of the split.
        examples: what `data.load()` gave, when it is at hand.

    Raises:
        ValueError: the data cannot be loaded or split.
    """
    examples = data.load() if examples is None else examples
    split = data.split(examples, validation if len(examples) > 1 else 0.0, seed)
    (low, high, mean, std), flat = _measure(examples.items, FLAT if examples.image else 0)
    counts: dict[str, int] = {}
    if examples.labels is not None:
        found = np.bincount(examples.labels, minlength=len(examples.classes))
        counts = {name: int(n) for name, n in zip(examples.classes, found, strict=True)}
    return Look(
        kind=data.kind,
        count=len(examples),
        shape=examples.shape,
        dtype=str(examples.items.dtype),
        image=examples.image,
        low=low,
        high=high,
        mean=mean,
        std=std,
        labels=counts,
        duplicates=_duplicates(examples),
        flat=tuple(examples.name(i) for i in flat),
        skipped=examples.skipped,
        train=len(split.train),
        validation=len(split.validation),
        captions=captions(examples.texts, len(examples)),
        attributes=examples.attributes,
        troubles=tuple(s for s in examples.troubles if not isinstance(s, LeftOut)),
        left_out=tuple(s for s in examples.troubles if isinstance(s, LeftOut)),
    )


def _measure(items: np.ndarray, flat: float) -> tuple[list[tuple[float, ...]], list[int]]:
    """Least, greatest, mean, standard deviation of every channel; examples that vary by at most `flat`.

    The standard deviation is the root of the mean of the blocks' variances plus that of their means'
    squared distances (Chan, Golub and LeVeque, 1983), which loses nothing when the mean is large.
    """
    if items.ndim == 2 and items.shape[1] > FEW:
        items = items[:, None]
    count, channels = items.shape[:2]
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    size, mean, squares = 0, np.zeros(channels), np.zeros(channels)
    constant: list[int] = []
    step = max(1, (1 << 22) // max(1, math.prod(items.shape[1:])))
    for start in range(0, count, step):
        block = np.asarray(items[start : start + step], np.float64)
        block = block.reshape(len(block), channels, -1)
        least, most = block.min(2), block.max(2)
        low, high = np.minimum(low, least.min(0)), np.maximum(high, most.max(0))
        if block.shape[2] > 1:
            constant += (start + np.flatnonzero((most - least).max(1) <= flat)).tolist()
        here, n = block.mean((0, 2)), block.shape[0] * block.shape[2]
        squares += block.var((0, 2)) * n + (here - mean) ** 2 * size * n / (size + n)
        mean, size = mean + (here - mean) * n / (size + n), size + n
    std = np.sqrt(squares / size)
    return [tuple(values.tolist()) for values in (low, high, mean, std)], constant


def _duplicates(examples: Examples) -> tuple[tuple[str, ...], ...]:
    leaders, group, sizes = np.unique(groups(examples.items), return_inverse=True, return_counts=True)
    members: dict[int, list[str]] = {}
    for index in np.flatnonzero(sizes[group] > 1):
        members.setdefault(int(leaders[group[index]]), []).append(examples.name(int(index)))
    return tuple(tuple(names) for _, names in sorted(members.items()))


# ------------------------------------------------------------------------------------- drawing


def contact_sheet(examples: Examples, path: str | os.PathLike[str], per_class: int = 12) -> None:
    """Draw examples, evenly spaced through the data, into a PNG.

    Pictures: a row a class with its name, or a square without labels, over their captions. Vectors of two numbers: a
    scatter plot; of up to `FEW` numbers: a histogram each; anything longer: the first examples as lines.

    Args:
        examples: at least one.
        path: the .png to write.
        per_class: pictures a row; about its square without labels.

    Raises:
        ValueError: `path` does not end in .png, or there are no examples.
        OSError: the file cannot be written.
    """
    if len(examples) == 0:
        raise ValueError("there are no examples to draw")
    if not os.fspath(path).lower().endswith(".png"):
        raise ValueError(f"a contact sheet is written to a path ending in .png; given {os.fspath(path)!r}")
    if not examples.image:
        _plot(examples, path)
        return
    rows, names = _rows(examples, per_class)
    pictures = [np.stack([_drawn(examples, i) for i in row]) for row in rows]
    save_png(sheet(pictures, row_labels=names), path)


def _drawn(examples: Examples, index: int) -> np.ndarray:
    """One picture, over its caption where there are any."""
    picture = _reduced(examples.items[index])
    return with_caption(picture, examples.texts[index], index) if examples.texts else picture


def _rows(examples: Examples, per_class: int) -> tuple[list[np.ndarray], list[str] | None]:
    """Indices of the pictures of every row, and the names of the rows."""
    if examples.labels is None:
        most = min(per_class * per_class, MOST_CAPTIONED) if examples.texts else per_class * per_class
        chosen = _spaced(np.arange(len(examples)), most)
        columns = min(per_class, math.ceil(math.sqrt(len(chosen))))
        return [chosen[i : i + columns] for i in range(0, len(chosen), columns)], None
    present = _spaced(np.unique(examples.labels), MOST_ROWS)
    rows = [_spaced(np.flatnonzero(examples.labels == label), per_class) for label in present]
    return rows, [examples.classes[label] for label in present]


def _spaced(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the values, evenly spaced."""
    if len(values) <= most:
        return values
    return np.asarray(values[np.linspace(0, len(values) - 1, most).round().astype(int)])


def _reduced(image: np.ndarray) -> np.ndarray:
    """The picture (C, H, W), with its longer side at most `LARGEST`."""
    if max(image.shape[1:]) <= LARGEST:
        return image
    from PIL import Image

    ratio = LARGEST / max(image.shape[1:])
    size = (max(1, round(image.shape[2] * ratio)), max(1, round(image.shape[1] * ratio)))
    pixels = np.moveaxis(image, 0, -1)
    picture = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if len(image) == 1 else pixels))
    return np.moveaxis(np.atleast_3d(np.asarray(picture.resize(size, Image.Resampling.LANCZOS))), -1, 0)


def _plot(examples: Examples, path: str | os.PathLike[str]) -> None:
    from matplotlib.figure import Figure

    items, size = examples.items, math.prod(examples.shape)
    figure = Figure(figsize=(8, 6), dpi=110, layout="constrained")
    if examples.shape == (2,):
        _scatter(figure.add_subplot(), examples)
    elif len(examples.shape) == 1 and size <= FEW:
        columns = math.ceil(math.sqrt(size))
        for dimension in range(size):
            axes = figure.add_subplot(math.ceil(size / columns), columns, dimension + 1)
            axes.hist(items[:, dimension], bins=60, color="tab:blue")
            axes.set_title(f"number {dimension}", fontsize=9)
    else:
        chosen = _spaced(np.arange(len(items)), 6)
        for place, index in enumerate(chosen):
            axes = figure.add_subplot(len(chosen), 1, place + 1)
            series = np.asarray(items[index]).reshape(-1, items.shape[-1])[:4]
            axes.plot(series.T, linewidth=0.8)
            name = "" if examples.labels is None else f": {examples.classes[examples.labels[index]]}"
            axes.set_title(f"{examples.name(int(index))}{name}", fontsize=9, loc="left")
            axes.margins(x=0)
            axes.label_outer()
    with atomic(path) as temp:
        figure.savefig(temp, format="png")


def _scatter(axes: Axes, examples: Examples) -> None:
    chosen = _spaced(np.arange(len(examples)), 5000)
    points = examples.items[chosen]
    labels = np.zeros(len(chosen), np.int64) if examples.labels is None else examples.labels[chosen]
    for label in np.unique(labels):
        name = examples.classes[label] if examples.classes else None
        axes.scatter(points[labels == label, 0], points[labels == label, 1], s=8, alpha=0.6, linewidths=0, label=name)
    axes.set_aspect("equal", adjustable="datalim")
    if 1 < len(examples.classes) <= 20:
        axes.legend(markerscale=2, fontsize=8)
