"""What a user should know of what is asked: that some of it is not read, or is like nothing the model has seen.

Letters in shapes: N samples, D numbers of an attribute.
"""

from __future__ import annotations

from collections.abc import Sequence

from reverie.prompts.known import Known
from reverie.prompts.prompt import Prompt
from reverie.prompts.vocabulary import Vocabulary

FAR = 4.0
"""A number is far when it is more standard deviations from the mean of training; uniform data end at 1.7."""


def remarks(vocabulary: Vocabulary, prompts: Sequence[Prompt]) -> tuple[str, ...]:
    """Sentences on N prompts, one at most on the texts, and one on each attribute; none where all is well.

    Raises:
        ValueError: the files of the text encoder in the run's folder are missing, or not those that were written.
    """
    said = [_far(known, prompts) for known in vocabulary.attributes if not known.classes]
    return tuple(filter(None, [_cut(vocabulary, sorted({prompt.text for prompt in prompts} - {""})), *said]))


def _cut(vocabulary: Vocabulary, texts: Sequence[str]) -> str:
    """On texts that are longer than is read; '' where there are none."""
    most = getattr(vocabulary.text, "length", 0)
    if not texts or not most:
        return ""
    found = [(count, text) for text, count in zip(texts, vocabulary.reader.counts(texts), strict=True) if count > most]
    if not found:
        return ""
    count, longest = max(found)
    ends = f"the ends of {len(found)} of {len(texts)} prompts are"
    if len(found) == 1:
        ends = f"the end of {'the prompt' if len(texts) == 1 else f'1 of {len(texts)} prompts'} is"
    return (
        f"{ends} not read: {_short(longest)!r} has {count} tokens, and the model was trained to read {most} "
        "(text.length)"
    )


def _far(known: Known, prompts: Sequence[Prompt]) -> str:
    """On values far from those of training; '' where there are none."""
    worst, what = FAR, ""
    for prompt in prompts:
        value = prompt.attributes.get(known.name)
        for v, mean, std in zip(value if isinstance(value, tuple) else (), known.mean, known.std, strict=False):
            if abs(v - mean) > worst * std:
                worst = abs(v - mean) / std
                what = f"{known.name} {v:.4g} is far from the {mean:.4g} ± {std:.2g} of training"
    return what and f"{what}: the model has seen little or nothing like it"


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
