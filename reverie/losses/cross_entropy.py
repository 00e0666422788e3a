"""The loss of a classifier on noisy data.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

from reverie.conditioning import Cond
from reverie.guidance import Classifies
from reverie.losses.base import OneLevel
from reverie.losses.times import Times, UniformTimes
from reverie.models.classifier import UNKNOWN, labels
from reverie.prediction import Prediction


@dataclass(frozen=True)
class CrossEntropy(OneLevel, kind="cross_entropy"):
    """-log p(class | x_t, t) at one noise level an example (Dhariwal & Nichol, 2021, section 4).

    Its expectation is least at the posterior of Bayes, where it is the conditional entropy of the class given x_t.
    An example whose class is hidden counts 0.

    Args:
        times: the distribution of t.
    """

    times: Times = field(default_factory=UniformTimes)
    trains = "classifier"

    def value(self, f: Classifies, truth: Prediction, t: Tensor, cond: Cond | None) -> Tensor:
        label = labels(cond, len(truth.x))
        return F.cross_entropy(f(truth.x, t), label, ignore_index=UNKNOWN, reduction="none")
