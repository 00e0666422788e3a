"""What a sample is asked to be.

Letters in shapes: N samples, D numbers of an attribute.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from reverie.data import Examples
from reverie.data.arrays import ATTRIBUTE
from reverie.prompts.known import Known, Value
from reverie.prompts.vocabulary import Vocabulary


@dataclass(frozen=True)
class Prompt:
    """What one sample is asked to be; what is left out, the model is free to choose.

    Attributes:
        label: the number of a class.
        text: '' for none.
        attributes: by name, as `Known.value` gives them.
    """

    label: int | None = None
    text: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether nothing is asked."""
        return self.label is None and not self.text and not self.attributes


def in_turn(
    vocabulary: Vocabulary,
    labels: Sequence[int | None],
    text: str | Sequence[str] | None = None,
    attributes: Mapping[str, object] | None = None,
) -> tuple[Prompt, ...]:
    """A prompt for each of N samples: texts and values of attributes are used over and over.

    Args:
        vocabulary: of the model.
        labels: the class of each of N samples, None for none.
        text: one, or several; '' for none.
        attributes: name to a value, or to a sequence of values, None for none of it. D > 1 numbers are one value.

    Raises:
        ValueError: the model reads no text, knows no such attribute, or that has no such value.
    """
    texts = [text] if isinstance(text, str) else list(text or [""])
    if any(t.strip() for t in texts) and vocabulary.text is None:
        raise ValueError(f"{vocabulary.folder} was trained without captions, so it reads no text; given {texts[0]!r}")
    values = {}
    for name, given in (attributes or {}).items():
        known = vocabulary.attribute(name)
        several = _several(known, given)
        if not several:
            raise ValueError(f"{name} is an empty list; give at least one value, or None for none")
        values[name] = [known.value(one) for one in several]
    made = []
    for i, label in enumerate(labels):
        own = {name: several[i % len(several)] for name, several in values.items()}
        made.append(Prompt(label, texts[i % len(texts)].strip(), {k: v for k, v in own.items() if v is not None}))
    return tuple(made)


def _several(known: Known, given: object) -> list[object]:
    """The values of an attribute that are given: one, or several."""
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
        return [given]
    values = list(given)
    flat = len(known.mean) > 1 and bool(values) and all(isinstance(value, Real) for value in values)
    return [given] if flat else values


def of_examples(vocabulary: Vocabulary, examples: Examples, rows: Sequence[int] | np.ndarray) -> tuple[Prompt, ...]:
    """What samples like these rows would be asked to be: all that the model can be told of them but an image."""
    own = {attribute.name: attribute for attribute in examples.attributes}
    made = []
    for row in map(int, rows):
        label = int(examples.labels[row]) if vocabulary.classes and examples.labels is not None else None
        text = examples.texts[row] if vocabulary.text is not None and examples.texts else ""
        values = {known.name: _value(own[known.name].values[row]) for known in vocabulary.attributes}
        made.append(Prompt(label, text, {name: v for name, v in values.items() if v is not None}))
    return tuple(made)


def _value(stored: np.ndarray) -> Value | None:
    """A value of `Attribute.values`; None for one that is not known, or of which a number is not known."""
    if stored.ndim == 0:
        return int(stored) if stored >= 0 else None
    return None if np.isnan(stored).any() else tuple(stored.tolist())


def typical(vocabulary: Vocabulary, examples: Examples, rows: np.ndarray, most: int) -> tuple[Prompt, ...]:
    """At most so many prompts of these rows, drawn without replacement, always the same ones.

    Any two of them differ in something: class, text or an attribute.
    """
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((len(rows), most)))).permutation(len(rows))
    found: dict[str, Prompt] = {}
    for row in rows[order].tolist():
        (prompt,) = of_examples(vocabulary, examples, [row])
        if not prompt.empty:
            found.setdefault(repr(prompt), prompt)
        if len(found) == most:
            break
    return tuple(found.values())


def names(vocabulary: Vocabulary, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """What each of N prompts asks for that not all of them do, in a few words; none where they are all the same.

    What stands in a prompt's own text is not said again, unless it is all that tells two prompts apart.
    """
    own, said = {known.name: known for known in vocabulary.attributes}, []
    for prompt in prompts:
        told = {"text": prompt.text} if prompt.text else {}
        told |= {} if prompt.label is None else {"label": vocabulary.classes[prompt.label]}
        said.append(told | {f"with {name}": own[name].said(value) for name, value in prompt.attributes.items()})
    keys = dict.fromkeys(key for told in said for key in told)
    differ = [key for key in keys if len({told.get(key) for told in said}) > 1]
    whole = [", ".join(told[key] for key in differ if key in told) for told in said]
    heard = [{key for key in told if "text" in differ and _heard(told[key], told.get("text", ""))} for told in said]
    brief = [
        ", ".join(told[key] for key in differ if key in told and (key == "text" or key not in known))
        for told, known in zip(said, heard, strict=True)
    ]
    meanings: dict[str, set[str]] = {}
    for short, long in zip(brief, whole, strict=True):
        meanings.setdefault(short, set()).add(long)
    pairs = zip(brief, whole, strict=True)
    return tuple(short if len(meanings[short]) == 1 else long for short, long in pairs) if differ else ()


def _heard(words: str, text: str) -> bool:
    """Whether a text has these words in it, in any case, whatever stands between them."""
    found, whole = (" ".join(re.findall(r"[^\W_]+", each)).lower() for each in (words, text))
    return bool(found) and f" {found} " in f" {whole} "


def columns(vocabulary: Vocabulary, prompts: Sequence[Prompt]) -> dict[str, np.ndarray]:
    """The attributes that N prompts ask for, as arrays that `reverie.data.Arrays` reads, `attribute_NAME` each.

    Of a kind (N,) names of classes, '' where a prompt leaves it out; of D numbers (N,) or (N, D) of them, NaN there.
    """
    made: dict[str, np.ndarray] = {}
    for known in vocabulary.attributes:
        values = [prompt.attributes.get(known.name) for prompt in prompts]
        if all(value is None for value in values):
            continue
        if known.classes:
            made[ATTRIBUTE + known.name] = np.array([known.classes[v] if isinstance(v, int) else "" for v in values])
        else:
            empty = (math.nan,) * len(known.mean)
            rows = np.array([empty if value is None else value for value in values], np.float64)
            made[ATTRIBUTE + known.name] = rows[:, 0] if len(known.mean) == 1 else rows
    return made
