"""The loss of an image-text pair on noisy images.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.losses.base import OneLevel
from reverie.losses.times import Times, UniformTimes
from reverie.models.pair import NoisyPair, captions
from reverie.prediction import Prediction


@dataclass(frozen=True)
class Contrastive(OneLevel, kind="contrastive"):
    """Which text of the batch belongs to an image, and which image to a text (Radford et al., 2021, figure 3).

        value_i = -(log softmax_j(l_ij)_i + log softmax_j(l_ji)_i) / 2,  l_ij = scale image_i(x_t, t) . text_j

    The softmax of i is over those j whose text is another than that of i, and i itself: examples of one caption are
    no counterexamples to each other. An example without a caption counts 0, and is none either. B is a batch
    of one process: neither processes nor accumulated batches compare their examples with each other's.

    Args:
        times: the distribution of t.
    """

    times: Times = field(default_factory=UniformTimes)
    trains = "pair"

    def value(self, f: NoisyPair, truth: Prediction, t: Tensor, cond: Cond | None) -> Tensor:
        same, given = captions(cond, len(truth.x))
        return info_nce(f(truth.x, t, cond), same, given)


def info_nce(logits: Tensor, same: Tensor, given: Tensor) -> Tensor:
    """The value (B,) of each example.

    Args:
        logits: (B, B), image by text.
        same: (B, B) bool, whether two texts are the same.
        given: (B,) bool, whether an example has a text.
    """
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    rival = ~same & given
    shown = logits.masked_fill(~(rival | itself), -math.inf), logits.T.masked_fill(~(rival | itself), -math.inf)
    own = logits.diagonal()
    value = sum((each.logsumexp(1) - own for each in shown), torch.zeros_like(own)) / 2
    return torch.where(given, value, 0.0)
