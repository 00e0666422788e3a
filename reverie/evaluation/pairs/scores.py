"""Numbers of how well images fit their captions.

    caption score   mean of cos(image, its caption)
    retrieval       share of the images whose own caption is the most similar of several different ones
    recall at 5     ... is one of the 5 most similar

The score is the cosine itself, in [-1, 1]. CLIPScore (Hessel et al., 2021, equation 1) is 2.5 max(cos, 0), and
torchmetrics writes 100 max(cos, 0); a cosine below 0 is not cut off here. What it is worth is told by its value on
real images with their captions, and by the value that is expected when captions are dealt to the images at random.

Letters in shapes: N images, K different captions, E numbers of one embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.metrics.base import Unfit
from reverie.evaluation.numbers import Number
from reverie.evaluation.pairs.base import OpenedPair
from reverie.evaluation.pairs.embedding import Embedded, embedded, shuffled
from reverie.evaluation.pairs.ranking import places
from reverie.evaluation.team import Team, one_thread

AMONG = 300
FIRST = 5
"""Places that count for recall."""


@dataclass(frozen=True, eq=False)
class Judged:
    """What becomes of each image, and of images with captions dealt at random.

    Attributes:
        cosines: (N,) with its own caption.
        firsts: (N,) 1 where its own caption comes first, else 0, or in between in case of ties.
        fives: (N,) the same for the first five.
        dealt: expected cosine when the captions are dealt to the images at random.
        blind: expected share of first places then.
    """

    cosines: np.ndarray
    firsts: np.ndarray
    fives: np.ndarray
    dealt: float
    blind: float


def scores(
    pair: OpenedPair, made: Collection, real: Collection | None, team: Team, device: torch.device | str,
    sets: int = 3, among: int = AMONG,
) -> tuple[Number, ...]:  # fmt: skip
    """The caption score, retrieval, and recall at 5 where there are more than 5 captions to choose from.

    Args:
        pair: that judges.
        made: images with the captions they were made for.
        real: captioned real images that the pair has not learnt from, for the floor; as many as there are samples,
            at the most.
        team: the processes that share the work.
        device: where the pair is.
        sets: into how many disjoint parts the samples are dealt for the spread.
        among: captions that an image is compared with, or as many different ones as there are.

    Raises:
        Unfit: the samples are no images, have no captions, or have only one.
    """
    _refuse(made)
    floor = None if real is None or not _suits(real) else real.take(shuffled(real)[: len(made)])
    chosen = [made] if floor is None or not _suits(floor) else [made, floor]
    spaces = [embedded(pair, each, team, device) for each in chosen]
    among = min(among, *(len(space.texts) for space in spaces))
    with one_thread():
        judged, *floors = (_judged(space, among) for space in spaces)
        parts = [np.arange(len(made))[i::sets] for i in range(sets)] if len(made) >= 2 * sets else []
        return tuple(_numbers(judged, floors[0] if floors else None, parts, among))


def _suits(some: Collection) -> bool:
    return some.image and len(set(some.captions)) > 1


def _refuse(made: Collection) -> None:
    if not made.image:
        raise Unfit(f"captions are compared with images, and {made.source} holds arrays")
    if not made.captions:
        raise Unfit(f"{made.source} has no captions; put metadata.jsonl with file_name and text beside the images")
    if not _suits(made):
        raise Unfit(f"all {len(made)} images of {made.source} have one caption; it takes two to tell them apart")


def _judged(space: Embedded, among: int) -> Judged:
    found = places(space.images, space.texts, space.own, among)
    cosines = np.einsum("ne,ne->n", space.images, space.texts[space.own])
    counts = np.bincount(space.own, minlength=len(space.texts)) / len(space.own)
    dealt = float(space.images.mean(0) @ (counts @ space.texts))
    return Judged(cosines, found.within(1), found.within(FIRST), dealt, found.blind)


def _numbers(judged: Judged, floor: Judged | None, parts: list[np.ndarray], among: int) -> list[Number]:
    def number(name: str, title: str, field: str, unit: str, note: str) -> Number:
        each = getattr(judged, field)
        error = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else None
        sets = tuple(float(each[part].mean()) for part in parts)
        real = None if floor is None else getattr(floor, field)
        return Number(
            name, title, float(each.mean()), better="higher", unit=unit, error=error, sets=sets,
            floor=None if real is None else float(real.mean()), floor_n=None if real is None else len(real), note=note,
        )  # fmt: skip

    dealt = "with captions dealt at random"
    found = [
        number("caption_score", "caption score", "cosines", "", f"mean cosine; {judged.dealt:.3f} {dealt}"),
        number(
            "retrieval", f"retrieval among {among}", "firsts", "%",
            f"a guess is right in {_share(1 / among)}; {_share(judged.blind)} {dealt}",
        ),
    ]  # fmt: skip
    if among > FIRST:
        found.append(
            number(
                "recall_at_5", f"recall at 5 of {among}", "fives", "%", f"a guess is right in {_share(FIRST / among)}"
            )
        )
    return found


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"
