"""The examples that a run is measured on.

Letters in shapes: N examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reverie import config
from reverie.data import Data, Examples, resolve
from reverie.evaluation.likelihood.figures import Settings
from reverie.prompts import OfExamples
from reverie.runs import Run, check_data

CHOSEN = 3
"""Keeps the stream of randomness apart from those of `reverie.evaluation.likelihood`."""


@dataclass(frozen=True)
class Chosen:
    """The examples that are measured: rows of all that a source holds."""

    examples: Examples
    rows: np.ndarray
    available: int
    """How many there were to choose from."""
    labels: np.ndarray | None
    """(N,), what the model is told of each row of `examples`."""
    source: str
    split: str
    told: OfExamples | None = None
    """What else it is told of them; None for nothing."""


def choose(run: Run, settings: Settings, data: Data | str | None) -> Chosen:
    """The examples to be measured, in an order that the seed decides.

    Raises:
        ValueError: they are none, of another shape, or of classes that the model does not know.
    """
    source = source_of(run, data)
    examples, own = source.load(), data is None or config.to_data(source) == config.to_data(run.recipe.data)
    if own:
        check_data(run, examples)
    given, taken = _shape(examples.shape), _shape(run.facts.shape)
    if examples.shape != run.facts.shape or examples.image != run.facts.image:
        kinds = ["images" if image else "arrays" for image in (examples.image, run.facts.image)]
        raise ValueError(f"the data are {kinds[0]} of shape {given}, and {run.path} models {kinds[1]} of {taken}")
    split = settings.split or ("validation" if own else "all")
    train = run.recipe.train
    parts = None if split == "all" else source.split(examples, train.validation, train.seed)
    rows = np.arange(len(examples)) if parts is None else getattr(parts, split)
    if not len(rows):
        raise ValueError(f"there are no examples in split {split!r} of the data; name another --split, or other data")
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((settings.seed, CHOSEN, len(rows)))))
    taken_rows = rows[random.permutation(len(rows))[: settings.n]]
    labels = _labels(run, settings, examples)
    told = run.told(examples) if own and settings.label != "none" and not run.vocabulary.plain else None
    return Chosen(examples, taken_rows, len(rows), labels, "its own" if data is None else str(data), split, told)


def source_of(run: Run, data: Data | str | None) -> Data:
    """The data asked for; a folder or file is read as the run's own, if that is of the same kind."""
    if data is None:
        return run.recipe.data
    if not isinstance(data, str):
        return data
    found, own = resolve(data), run.recipe.data
    path = getattr(found, "path", None)
    return found if path is None or type(found) is not type(own) else _elsewhere(own, path)


def _elsewhere(source: Any, path: object) -> Data:  # noqa: ANN401  # a kind of data with a path
    moved: Data = replace(source, path=path)
    return moved


def _labels(run: Run, settings: Settings, examples: Examples) -> np.ndarray | None:
    """For each example the number of its class in the run; None where the model is told nothing."""
    if not run.classes or settings.label == "none":
        return None
    return labels_in(run, examples, "; write --label none")


def labels_in(run: Run, examples: Examples, instead: str = "") -> np.ndarray:
    """For each example the number of its class in the run.

    Raises:
        ValueError: the examples have no labels, or one that the run does not know.
    """
    if examples.labels is None:
        raise ValueError(f"{run.path} was trained with labels, and these data have none{instead}")
    unknown = [name for name in examples.classes if name not in run.classes]
    if unknown:
        known = ", ".join(run.classes[:8]) + (", ..." if len(run.classes) > 8 else "")
        raise ValueError(f"{run.path} knows no class {unknown[0]!r}, only {known}{instead}")
    return np.array([run.classes.index(name) for name in examples.classes])[examples.labels]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
