"""Collections from files, from data, and from runs.

Letters in shapes: N examples, K classes, ... one example.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reverie import config
from reverie.config import Plain
from reverie.data import Data, Examples, Folder, resolve
from reverie.data.captions import captions
from reverie.data.decoding import Channels, Resize
from reverie.evaluation.collection import Collection
from reverie.runs import Run, check_data

CHOSEN = 5
"""Keeps the stream of randomness by which rows are chosen apart from others."""


@dataclass(frozen=True)
class Picture:
    """How folders of images are read: see `reverie.data.images.Folder`."""

    size: int | tuple[int, int] | None = None
    resize: Resize = "crop"
    channels: Channels | None = None

    def told(self) -> dict[str, Plain]:
        """What of it is not left to the images themselves."""
        given = {"size": self.size, "resize": self.resize, "channels": self.channels}
        return {} if self == Picture() else {"read": {k: config.to_data(v) for k, v in given.items() if v is not None}}


def read(text: str | Path, picture: Picture | None = None, most: int | None = None, seed: int = 0) -> Collection:
    """The examples that a word or a path stands for: a built-in name, a folder of images, a .npy or .npz file.

    Args:
        text: as for `reverie train`.
        picture: how a folder of images is read.
        most: how many are taken, if there are more; drawn without replacement.
        seed: of that choice.

    Raises:
        ValueError: there is nothing to read, or it cannot be read.
    """
    picture = Picture() if picture is None else picture
    data = resolve(str(text))
    if isinstance(data, Folder):
        data = replace(data, size=picture.size, resize=picture.resize, channels=picture.channels)
    elif picture != Picture():
        raise ValueError(f"size, resize and channels say how a folder of images is read; {text} is {data.kind}")
    examples = data.load()
    return collected(examples, np.arange(len(examples)), str(text), picture.told(), most, seed, data)


def collected(
    examples: Examples,
    rows: np.ndarray,
    source: str,
    about: dict[str, Plain],
    most: int | None = None,
    seed: int = 0,
    data: Data | None = None,
) -> Collection:
    """Some of these rows of a source of data, in increasing order.

    Args:
        examples: all that the source holds.
        rows: those to choose from.
        source: what they are, in a few words.
        about: what else the protocol should say of them.
        most: how many are taken, if there are more; drawn without replacement.
        seed: of that choice.
        data: the source, whose captions are read where it has any.
    """
    available = len(rows)
    if most is not None and most < available:
        key = np.random.SeedSequence((seed, CHOSEN, available))
        rows = np.sort(rows[np.random.Generator(np.random.Philox(key)).permutation(available)[:most]])
        about = {**about, "available": available, "choice_seed": seed}
    told: tuple[str, ...] = ()
    if isinstance(data, Folder) and examples.sources:
        found = captions(Path(data.path).expanduser(), examples.sources)
        told = tuple(found[i] for i in rows) if found else ()
    if examples.skipped:
        about = {**about, "skipped": len(examples.skipped)}
    return Collection(
        examples.items[rows],
        examples.image,
        source,
        about,
        None if examples.labels is None else examples.labels[rows],
        examples.classes,
        told,
        data,
    )


@dataclass(frozen=True)
class OfRun:
    """The real examples that a run is judged by: some that it was trained on, and others."""

    train: Collection
    held_out: Collection | None
    """None where nothing was held out."""


def of_run(
    run: Run, most: int | None = None, held_out: int | None = None, seed: int = 0, examples: Examples | None = None
) -> OfRun:
    """Training and held-out examples of a run, as they are in the data: neither mirrored nor changed otherwise.

    Args:
        run: whose data and split they are.
        most: of the training examples, at the most.
        held_out: of the others, at the most.
        seed: of the choice.
        examples: the run's data, if they are at hand.

    Raises:
        ValueError: the data are gone, or are not those the run began with.
    """
    recipe = run.recipe
    examples = recipe.data.load() if examples is None else examples
    check_data(run, examples)
    split, source = (
        recipe.data.split(examples, recipe.train.validation, recipe.train.seed),
        config.in_words(recipe.data),
    )
    train = collected(examples, split.train, source, {"split": "train"}, most, seed, recipe.data)
    if len(split.validation) == 0:
        return OfRun(train, None)
    about: dict[str, Plain] = {"split": "validation"}
    return OfRun(train, collected(examples, split.validation, source, about, held_out, seed, recipe.data))
