"""A classifier that knows how noisy its examples are.

Letters in shapes: B batch, K classes, ... the shape of one example.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.models.pooled import Noisy, Pooled
from reverie.nets import NetConfig
from reverie.schedules import Schedule
from reverie.time_labels import TimeLabel

UNKNOWN = -1
"""The class of an example that has none."""


class NoisyClassifier(Noisy):
    """p(class | x_t) at every noise level, whose gradient guides a denoiser.

        p(k | x, t) = softmax_k(net(x / sqrt(alpha^2 + sigma^2), label(t)))

    (Song et al., 2021, section 5; Dhariwal & Nichol, 2021, section 4.) Trained by `CrossEntropy`, the best that it
    can be is the posterior of Bayes, p_t(x | k) p(k) / p_t(x), so that its gradient in x is the difference of the
    scores with the class and without.
    """

    net: Pooled

    @classmethod
    def build(
        cls, net: NetConfig, shape: tuple[int, ...], classes: int, schedule: Schedule, label: TimeLabel
    ) -> NoisyClassifier:
        """A new one, of a backbone `net` for examples of `shape`, initialised from torch's global generator.

        Raises:
            ValueError: there is nothing to tell apart, or the backbone has no use for such a shape.
        """
        if classes < 2:
            raise ValueError(
                f"a classifier needs data of at least two classes; these have {classes or 'none'}, and attributes are "
                "no classes: right is a sub-folder of images for each, or an .npz with y or an array data.labels names"
            )
        pooled = Pooled(net, shape, classes)
        nn.init.zeros_(pooled.out.bias)  # all classes are as likely before there is anything to tell them apart by
        return cls(pooled, schedule, label)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Logits (B, K), in the dtype of x, for x (B, ...) at t, (B,) or ()."""
        return self.net(*self.seen(x, t)).to(x.dtype)

    def right(self, x: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """(B,), 1 where the likeliest class is the one in `cond`, 0 where it is not, NaN where there is none."""
        label = labels(cond, len(x)).to(x.device)
        hit = (self(x, t).argmax(1) == label).to(x.dtype)
        return hit.masked_fill(label == UNKNOWN, float("nan"))

    def guessed(self, cond: Cond | None, batch: int) -> Tensor:
        """(B,), what `right` would be on the average if the class were drawn at random; NaN where there is none."""
        label = labels(cond, batch)
        share = torch.full((batch,), 1 / self.net.out.out_features, dtype=torch.float64)
        return share.masked_fill(label.cpu() == UNKNOWN, float("nan"))


def labels(cond: Cond | None, batch: int) -> Tensor:
    """The classes (B,) of a batch, int64, `UNKNOWN` where none is given or it is dropped.

    Raises:
        ValueError: there are no classes at all.
    """
    if cond is None or cond.label is None:
        raise ValueError(f"a classifier learns from labels, and the batch of {batch} has none; give Cond(label=...)")
    hidden = cond.hidden("label")
    return cond.label if hidden is None else cond.label.masked_fill(hidden, UNKNOWN)
