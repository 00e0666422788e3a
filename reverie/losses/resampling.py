"""Loss-aware importance sampling of times."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.losses.base import Around, Bring, Loss, layers
from reverie.losses.denoising import Denoising
from reverie.parameterizations import Parameterization
from reverie.schedules import Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class Resampled(Around, kind="resampled"):
    r"""A loss whose times are drawn where it is large, divided by how much more often: the mean stays.

    The loss's own distribution of times is cut into K = `levels` equal shares; share k is drawn with
    probability p_k and weighs 1 / (K p_k),

        p_k ~ sqrt(mean of the squares of the last `history` losses there),

    mixed with `uniform` of the equal distribution, and equal until every share has its history
    (Nichol & Dhariwal, 2021, eq. 18). On a chain of K steps the shares are its steps.

    Args:
        loss: what is trained.
        levels: K.
        history: losses remembered for each.
        uniform: the part of the equal distribution.

    Raises:
        ValueError: levels or history below 1, or uniform outside (0, 1].
    """

    loss: Loss = field(default_factory=Denoising)
    levels: int = 100
    history: int = 10
    uniform: float = 0.001

    def __post_init__(self) -> None:
        if self.levels < 1 or self.history < 1 or not 0 < self.uniform <= 1:
            raise ValueError(
                f"Resampled needs levels >= 1, history >= 1 and uniform in (0, 1]; given levels={self.levels}, "
                f"history={self.history}, uniform={self.uniform}"
            )

    def memory(self, bring: Bring | None = None) -> History:
        return History(self.levels, self.history, self.loss.memory(bring))

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        if memory is None:
            return self.loss(f, x0, u, cond, noise)
        assert isinstance(memory, History)
        u, weight = self.moved(u, memory)
        value = self.loss(f, x0, u, cond, noise, memory.inner)
        return weight.to(value) * value

    def moved(self, u: Tensor, memory: History) -> tuple[Tensor, Tensor]:
        """Where u (B,), uniform in [0, 1), goes under the learned distribution, and the weights (B,) for it."""
        p = memory.probabilities(self.uniform)
        above = p.cumsum(0)
        above = above / above[-1]
        k = torch.searchsorted(above, u.contiguous(), right=True).clamp(max=self.levels - 1)
        inside = ((u - (above[k] - p[k])) / p[k]).clamp(0, 1 - 1e-12)
        return (k + inside) / self.levels, 1 / (self.levels * p[k])

    def observe(self, memory: nn.Module | None, u: Tensor, values: Tensor) -> None:
        assert isinstance(memory, History)
        u, weight = self.moved(u, memory)
        values = values.cpu().double() / weight
        self.loss.observe(memory.inner, u, values)
        memory.add((u * self.levels).long().clamp(max=self.levels - 1), values)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """As the loss inside.

        Raises:
            ValueError: with what would fit.
        """
        if any(isinstance(inner, Resampled) for inner in layers(self.loss)):
            raise ValueError("Resampled within Resampled: the times can be chosen once; use loss.loss.kind=denoising")
        super().check(schedule, parameterization)


class History(nn.Module):
    """The last losses of each level, oldest first, and how many there are."""

    losses: Tensor
    count: Tensor

    def __init__(self, levels: int, history: int, inner: nn.Module | None = None) -> None:
        """`inner` is the memory of the loss inside."""
        super().__init__()
        self.inner = inner
        self.register_buffer("losses", torch.zeros(levels, history, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(levels, dtype=torch.int64))

    def probabilities(self, uniform: float) -> Tensor:
        """p (K,) in float64 on the host."""
        losses, levels = self.losses.cpu().double(), len(self.count)
        equal = torch.full((levels,), 1 / levels, dtype=torch.float64)
        if int(self.count.min()) < losses.shape[1]:
            return equal
        p = losses.square().mean(1).sqrt()
        total = p.sum()
        return (1 - uniform) * p / total + uniform * equal if 0 < float(total) < float("inf") else equal

    def add(self, level: Tensor, values: Tensor) -> None:
        """Put values (G,) into the histories of their levels (G,), one after the other."""
        losses, count = self.losses.cpu().clone(), self.count.cpu().clone()
        for k, value in zip(level.tolist(), values.tolist(), strict=True):
            losses[k] = torch.cat([losses[k, 1:], losses.new_tensor([value])])
            count[k] += 1
        self.losses.copy_(losses)
        self.count.copy_(count.clamp(max=losses.shape[1]))
