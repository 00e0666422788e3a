"""Collections from files, from data, and from runs.

Letters in shapes: N examples, K classes, ... one example.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reverie import config
from reverie.config import Plain
from reverie.data import Data, Examples, Folder, resolve
from reverie.data.decoding import Channels, Resize
from reverie.evaluation.collection import Collection
from reverie.evaluation.likelihood.chosen import labels_in, source_of
from reverie.prompts import of_examples
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


def check_picture(picture: Picture, given: Sequence[str | Path]) -> None:
    """Refuse settings of a picture where no folder of images is given that they could be of.

    Raises:
        ValueError: none of what is given is such a folder, or there is no such data.
    """
    if picture == Picture() or any(isinstance(resolve(str(text)), Folder) for text in given):
        return
    told = f"{' and '.join(map(str, given))} {'are' if len(given) > 1 else 'is'} none" if given else "none is given"
    raise ValueError(f"size, resize and channels say how a folder of images is read; {told}")


def printable(path: str | Path) -> str:
    """A path that UTF-8 can write, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read(
    text: str | Path, picture: Picture | None = None, most: int | None = None, seed: int = 0, captioned: bool = False
) -> Collection:
    """The examples that a word or a path stands for: a built-in name, a folder of images, a .npy or .npz file.

    Args:
        text: as for `reverie train`.
        picture: how it is read, if it is a folder of images.
        most: how many are taken, if there are more; drawn without replacement.
        seed: of that choice.
        captioned: whether captions are read, where there are any; an example without one is left out then.

    Raises:
        ValueError: there is nothing to read, or it cannot be read.
    """
    data, read_as = resolve(str(text)), Picture()
    if isinstance(data, Folder) and picture is not None:
        data = replace(data, size=picture.size, resize=picture.resize, channels=picture.channels)
        read_as = picture
    examples = data.load()
    every = captioned_rows(examples) if captioned else np.arange(len(examples))
    rows, told = chosen(every, most, seed)
    told = told if len(every) == len(examples) else {**told, "without_caption": len(examples) - len(every)}
    return collected(examples, rows, printable(text), {**read_as.told(), **told}, data, captioned)


def captioned_rows(examples: Examples) -> np.ndarray:
    """Rows of the examples that have a caption: (M,) int64; all of them where none has one."""
    if not examples.texts:
        return np.arange(len(examples))
    return np.flatnonzero([bool(text) for text in examples.texts])


def chosen(rows: np.ndarray, most: int | None, seed: int) -> tuple[np.ndarray, dict[str, Plain]]:
    """At most so many of these rows, in increasing order, and what the protocol should say of the choice.

    Args:
        rows: those to choose from.
        most: how many are taken, if there are more; drawn without replacement.
        seed: of that choice.
    """
    available = len(rows)
    if most is None or most >= available:
        return rows, {}
    key = np.random.SeedSequence((seed, CHOSEN, available))
    taken = np.sort(rows[np.random.Generator(np.random.Philox(key)).permutation(available)[:most]])
    return taken, {"available": available, "choice_seed": seed}


def collected(
    examples: Examples,
    rows: np.ndarray,
    source: str,
    about: dict[str, Plain],
    data: Data | None = None,
    captioned: bool = False,
) -> Collection:
    """These rows of a source of data.

    Args:
        examples: all that the source holds.
        rows: which of them.
        source: what they are, in a few words.
        about: what else the protocol should say of them.
        data: the source.
        captioned: whether it gets their captions, '' for a row that has none; see `captioned_rows`.
    """
    told = tuple(examples.texts[i] for i in rows) if captioned and examples.texts else ()
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

    def some(rows: np.ndarray, most: int | None, name: str) -> Collection:
        rows, told = chosen(rows, most, seed)
        found = collected(examples, rows, source, {"split": name, **told}, recipe.data, captioned=bool(examples.texts))
        return replace(found, prompts=of_examples(run.vocabulary, examples, rows)) if run.facts.prompts else found

    train = some(split.train, most, "train")
    return OfRun(train, some(split.validation, held_out, "validation") if len(split.validation) else None)


def others_of_run(run: Run, text: str) -> Collection:
    """Real examples that a run was not trained on, by a word or a path; read as the run's own data are.

    Raises:
        ValueError: there is nothing to read, or it has not the labels that the run was trained with.
    """
    data = source_of(run, text)
    examples = data.load()
    found = collected(examples, np.arange(len(examples)), printable(text), {}, data)
    return replace(found, labels=labels_in(run, examples), classes=run.classes) if run.classes else found
