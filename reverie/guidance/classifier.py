"""Classifier guidance.

Letters in shapes: B batch, K classes, ... the shape of one example.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.guidance.pull import Pull, Pulled
from reverie.schedules import Schedule


class Classifies(Protocol):
    """A classifier of noisy examples, differentiable in x."""

    @property
    def schedule(self) -> Schedule:
        """The process that x belongs to."""
        ...

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits (B, K) for x (B, ...) at t, (B,) or ()."""
        ...


class LabelPull(Pull):
    """log p(label | x_t) by a classifier, for the examples that have a label which is not dropped."""

    def __init__(self, classifier: Classifies) -> None:
        self.classifier = classifier

    @property
    def schedule(self) -> Schedule:
        """The classifier's."""
        return self.classifier.schedule

    def rows(self, cond: Cond | None, like: Tensor) -> Tensor | None:
        if cond is None or cond.label is None:
            return None
        hidden = cond.hidden("label")
        return torch.ones(len(like), dtype=torch.bool, device=like.device) if hidden is None else ~hidden

    def value(self, x: Tensor, t: Tensor, cond: Cond | None, index: Tensor) -> Tensor:
        assert cond is not None and cond.label is not None
        hidden = cond.hidden("label")
        label = cond.label if hidden is None else cond.label.masked_fill(hidden, 0)
        return self.classifier(x, t).log_softmax(1).gather(1, label[:, None])[:, 0]


class ClassifierGuided(Pulled):
    """eps - scale sigma grad_x log p(label | x_t), with `Cond.label` and a classifier of noisy examples.

    Dhariwal & Nichol (2021), algorithm 2. On an unconditional denoiser scale 1 is the conditional one, by
    Bayes' rule, and scale w is classifier-free guidance of scale w, if both models are exact. On a
    conditional denoiser 0 is none. Examples without a label, or whose label is dropped, are left as they
    are. A classifier of another schedule is asked at the same sigma / alpha.

    Their algorithm 1 moves the mean of the reverse step instead: see `reverie.guidance.MeanGuided`.

    Args:
        denoiser: the model.
        classifier: on any schedule.
        scale: 0 is none.
    """

    def __init__(self, denoiser: Denoises, classifier: Classifies, scale: float) -> None:
        super().__init__(denoiser, LabelPull(classifier), scale)
