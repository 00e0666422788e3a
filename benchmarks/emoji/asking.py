"""Which captions are asked for, and which examples the judge learns from.

Letters in shapes: N examples, K captions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reverie.data import Examples, Split, groups
from reverie.data.base import joined


@dataclass(frozen=True, eq=False)
class Questions:
    """Rows of examples, each a caption, and a style and a category with it.

    Attributes:
        seen: (K,) int64, of different captions; the model was trained on them, the judge was not.
        held_out: (K',) int64, of different captions of emoji that neither was trained on.
        learnt: those that the judge learns from, one variant of each emoji in each style.
    """

    seen: np.ndarray
    held_out: np.ndarray
    learnt: np.ndarray


def questions(examples: Examples, split: Split, most: int, seed: int) -> Questions:
    """As many emoji of the training split as are held out are kept from the judge, whole, and asked for.

    So the judge is as much a stranger to the one as to the other, and its figures can be compared.

    Args:
        examples: all of them.
        split: of the run.
        most: captions asked for of either side.
        seed: of the choice.
    """
    random = np.random.Generator(np.random.Philox(seed))
    emoji = joined(groups(examples.items), examples.related)
    training = random.permutation(np.unique(emoji[split.train]))
    apart = np.isin(emoji[split.train], training[: len(np.unique(emoji[split.validation]))])
    rest = random.permutation(split.train[~apart])
    assert examples.balanced is not None
    learnt = rest[np.unique(examples.balanced[rest], return_index=True)[1]]
    return Questions(
        _asked(examples, emoji, random.permutation(split.train[apart]), most),
        _asked(examples, emoji, random.permutation(split.validation), most),
        np.sort(learnt),
    )


def _asked(examples: Examples, emoji: np.ndarray, rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, no two of one caption: one of every emoji, then a second one, and so on."""
    captions: set[str] = set()
    turns: dict[int, int] = {}
    chosen: list[tuple[int, int]] = []
    for row in rows.tolist():
        if examples.texts[row] not in captions:
            captions.add(examples.texts[row])
            turn = turns[emoji[row]] = turns.get(emoji[row], 0) + 1
            chosen.append((turn, row))
    return np.array([row for _, row in sorted(chosen, key=lambda each: each[0])[:most]], np.int64)
