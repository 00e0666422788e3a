"""What a sample is asked to be.

Letters in shapes: N samples, D numbers of an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from reverie.data import Examples
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
    """At most so many different prompts of these rows, drawn without replacement, always the same ones."""
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((len(rows), most)))).permutation(len(rows))
    found: dict[str, Prompt] = {}
    for row in rows[order].tolist():
        (prompt,) = of_examples(vocabulary, examples, [row])
        if not prompt.empty:
            found.setdefault(prompt.text or repr(prompt), prompt)
        if len(found) == most:
            break
    return tuple(found.values())


def names(vocabulary: Vocabulary, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """What each of N prompts asks for that not all of them do, in a few words; none where they are all the same."""
    own, said = {known.name: known for known in vocabulary.attributes}, []
    for prompt in prompts:
        told = {"text": prompt.text} if prompt.text else {}
        told |= {} if prompt.label is None else {"label": vocabulary.classes[prompt.label]}
        said.append(told | {f"with {name}": own[name].said(value) for name, value in prompt.attributes.items()})
    keys = dict.fromkeys(key for told in said for key in told)
    differ = [key for key in keys if len({told.get(key) for told in said}) > 1]
    return tuple(", ".join(told[key] for key in differ if key in told) for told in said) if differ else ()
