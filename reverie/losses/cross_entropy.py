"""The loss of a classifier on noisy data.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.guidance import Classifies
from reverie.losses.base import Loss
from reverie.losses.times import Times, UniformTimes
from reverie.models.classifier import UNKNOWN, labels
from reverie.prediction import Prediction
from reverie.schedules import Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class CrossEntropy(Loss, kind="cross_entropy"):
    """-log p(class | x_t, t) at one noise level an example (Dhariwal & Nichol, 2021, section 4).

    Its expectation is least at the posterior of Bayes, where it is the conditional entropy of the class given x_t.
    An example whose class is hidden counts 0.

    Args:
        times: the distribution of t.
    """

    times: Times = field(default_factory=UniformTimes)

    @property
    def trains(self) -> str:  # type: ignore[override]
        return "classifier"

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.times(u, schedule)

    def __call__(
        self,
        f: Classifies,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        label, t = labels(cond, len(x0)), self.times(u, f.schedule)
        x = Prediction.of(x0, noise(x0), f.schedule.at(t, like=x0)).x
        return F.cross_entropy(f(x, t), label, ignore_index=UNKNOWN, reduction="none")
