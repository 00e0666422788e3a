"""Whether a prior of image embeddings (unCLIP) is better than what there is without it.

Letters in shapes: N examples, E numbers of an embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.diagnosis.found import Found, Row, mean_and_error, pm

SURE = 3
"""Standard errors by which a difference is no chance: 1 in 700."""

Estimate = tuple[float, float]
"""A mean over examples, and its standard error."""


@dataclass(frozen=True)
class PriorFound(Found):
    """Mean cosines to the true embeddings of N groups of examples, and differences example by example."""

    n: int
    """N; examples that show the same thing are one group, for they err together."""
    prior: Estimate
    """Of what the prior predicts."""
    nearest: Estimate
    """Of the embedding that belongs to the nearest text known, or another stand-in for each example."""
    mean: Estimate
    """Of the mean embedding, the same for all."""
    over_nearest: Estimate
    """prior - nearest."""
    over_mean: Estimate
    """prior - mean."""

    @property
    def faulty(self) -> bool:
        """Whether the prior is not surely better than the mean embedding."""
        return not _surely(self.over_mean)

    @property
    def seen(self) -> str:
        return f"cosine {pm(*self.prior)}; nearest {pm(*self.nearest)}, mean {pm(*self.mean)}"

    @property
    def words(self) -> str:
        over_nearest, over_mean = pm(*self.over_nearest), pm(*self.over_mean)
        if self.faulty:
            return (
                f"the prior is at fault: its cosine to true embeddings is {over_mean} above that of the mean "
                f"embedding, which tells nothing of the text; train it longer"
            )
        if not _surely(self.over_nearest):
            return (
                f"the prior reads the text ({over_mean} above the mean embedding), but is no better than the nearest "
                f"embedding known ({over_nearest}): more data or a larger prior would help first"
            )
        return (
            f"the prior is nearer the true embeddings than the nearest known, by {over_nearest}, and than the mean, by "
            f"{over_mean}"
        )

    def rows(self) -> tuple[Row, ...]:
        return (
            ("cosine of the prior to true embeddings", pm(*self.prior), "1"),
            ("less that of the nearest known embedding", pm(*self.over_nearest), "above 0"),
            ("less that of the mean embedding", pm(*self.over_mean), "above 0"),
        )


def _surely(difference: Estimate) -> bool:
    value, error = difference
    return value > SURE * error


def cosines(predicted: Tensor, true: Tensor, nearest: Tensor, mean: Tensor, group: Tensor | None = None) -> PriorFound:
    """Cosines of three guesses to true embeddings, and what the first has over the others.

        cos(a, b) = a.b / (|a| |b|);    difference_i = cos(predicted_i, true_i) - cos(other_i, true_i)

    Args:
        predicted: (N, E), of the prior.
        true: (N, E), of the pictures.
        nearest: (N, E), the best there is without a model.
        mean: (E,), of training pictures.
        group: (N,) whole numbers; the mean over examples of one number is one value. None: all are others.

    Raises:
        ValueError: fewer than 2 examples or groups, or arguments of other shapes.
    """
    if predicted.ndim != 2 or len(predicted) < 2:
        raise ValueError(f"embeddings of at least 2 examples are compared, (N, E); given {tuple(predicted.shape)}")
    for name, given, wanted in (
        ("true", true, predicted.shape),
        ("nearest", nearest, predicted.shape),
        ("mean", mean, predicted.shape[1:]),
    ):
        if given.shape != wanted:
            raise ValueError(f"{name} must be of {tuple(wanted)}, as predicted is; given {tuple(given.shape)}")
    true, group = true.double(), torch.arange(len(true)) if group is None else group
    if len(group) != len(true):
        raise ValueError(f"group must be of {len(true)}, as predicted is; given {len(group)}")
    member = F.one_hot(group.unique(return_inverse=True)[1]).double().T  # (groups, N)
    if len(member) < 2:
        raise ValueError(f"embeddings of at least 2 groups of examples are compared; given {len(member)}")
    member /= member.sum(1, keepdim=True)
    own, near, middle = (F.cosine_similarity(guess.double(), true, dim=1) for guess in (predicted, nearest, mean[None]))
    values = (member @ each for each in (own, near, middle, own - near, own - middle))
    return PriorFound(len(member), *map(mean_and_error, values))
