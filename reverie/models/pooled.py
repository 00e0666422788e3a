"""What looks at a noisy example and says a vector of it.

Letters in shapes: B batch, C channels, `...` the axes of space of one example, F features, K numbers that go out.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reverie.nets import NetConfig
from reverie.schedules import Level, Schedule
from reverie.tensors import Number, number, sent
from reverie.time_labels import TimeLabel

FEATURES = 128
"""F, at least."""


class Pooled(nn.Module):
    """A backbone whose output is pooled by attention to one vector: (B, C, ...) -> (B, K).

        h = backbone(x, label)                                      (B, 1 + F, ...)
        out = Linear(sum over space of softmax(h_0) SiLU(h_1..F))

    A backbone's output starts at 0, so that all places weigh the same at first, and `out` is the bias.
    """

    def __init__(self, net: NetConfig, shape: tuple[int, ...], outputs: int) -> None:
        """`shape` is that of one example, (C, ...), and `outputs` K.

        Raises:
            ValueError: the backbone has no use for such a shape.
        """
        super().__init__()
        self.backbone = net.build(shape, outputs=stacked(shape))
        self.out = nn.Linear(stacked(shape) * shape[0] - 1, outputs)

    @property
    def checkpointing(self) -> bool:
        """Whether blocks forget their inside until the backward pass; may be set."""
        return self.backbone.checkpointing

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        self.backbone.checkpointing = on

    def constrain(self) -> None:
        """After a step of the optimizer, what the backbone wants."""
        self.backbone.constrain()

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """`x` is (B, C, ...) and `label` (B,), the time label; the result (B, K)."""
        h = self.backbone(x, label).flatten(2) if x.ndim > 2 else self.backbone(x, label)[..., None]
        weight = h[:, :1].softmax(dim=2)
        return self.out((weight * F.silu(h[:, 1:])).sum(2))


def stacked(shape: tuple[int, ...]) -> int:
    """How many tensors of `shape` a backbone puts out to have 1 + F channels or more."""
    return math.ceil((1 + FEATURES) / shape[0])


class Noisy(nn.Module):
    """A network that looks at x of a process, whatever its size there.

    It is given x / sqrt(alpha^2 + sigma^2), which is of about unit variance at all times where the data are, and
    the time label. It computes in its own dtype.

    Args:
        net: all that is learned; it has `constrain` and `checkpointing` as a `reverie.nets.base.Backbone` has.
        schedule: the process.
        label: of the time.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, label: TimeLabel) -> None:
        super().__init__()
        self.net, self.schedule, self.label = net, schedule, label

    def seen(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given for x (B, ...) at t, (B,) or (): x to scale and the label (B,)."""
        level = self.schedule.at(t, like=x)
        dtype = next(self.net.parameters()).dtype
        exact = torch.promote_types(dtype, torch.float32)  # half precision would round large labels
        label = sent(self.label(level).flatten(), x, exact).expand(len(x))
        return (_scale(level) * x).to(dtype), label


def _scale(level: Level) -> Number:
    scale: Number = (number(level.alpha) ** 2 + number(level.sigma) ** 2) ** -0.5
    return scale
