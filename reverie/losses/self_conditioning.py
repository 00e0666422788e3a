"""Training a network that is told its own estimate of x0."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Wrapper
from reverie.losses.base import Around, Loss, layers
from reverie.losses.denoising import Denoising
from reverie.parameterizations import Parameterization
from reverie.prediction import Prediction
from reverie.schedules import Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class SelfConditioned(Around, kind="self_conditioned"):
    """A loss with the network's own estimate of x0 as a second input (Chen et al., 2023, section 2.2).

    With `probability`, an example's estimate is what the network says of the same x without one, no
    gradient flowing through it; otherwise it is 0. In sampling it is what was said at the step before.

    Args:
        loss: what is trained.
        probability: how often an example is given an estimate.

    Raises:
        ValueError: probability outside (0, 1].
    """

    loss: Loss = field(default_factory=Denoising)
    probability: float = 0.5
    self_conditions = True

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f"SelfConditioned needs a probability in (0, 1]; given {self.probability}")

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        return self.loss(_Estimating(f, self.probability, noise), x0, u, cond, noise, memory)

    def observe(self, memory: nn.Module | None, u: Tensor, values: Tensor) -> None:
        self.loss.observe(memory, u, values)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """As the loss inside, which must not differentiate by x.

        Raises:
            ValueError: with what would fit.
        """
        if self.loss.self_conditions:
            raise ValueError("SelfConditioned within itself: there is one estimate; use loss.loss.kind=denoising")
        if any(inner.kind == "sliced_score_matching" for inner in layers(self.loss)):
            raise ValueError(
                "score matching takes the derivative by x of all that depends on x, and no derivative goes through an "
                "estimate of x0; use loss.loss.kind=denoising"
            )
        super().check(schedule, parameterization)


class _Estimating(Wrapper):
    """The denoiser, told its own estimate of x0 with a probability, else 0."""

    def __init__(self, denoiser: Denoises, probability: float, noise: Noise) -> None:
        super().__init__(denoiser)
        self.probability, self.noise = probability, noise

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        with torch.no_grad():
            estimate = self.denoiser(x, t, cond).x0
        chance = torch.special.ndtr(self.noise(x.detach()).flatten(1)[:, 0])
        told = (chance < self.probability).reshape((-1,) + (1,) * (x.ndim - 1))
        return self.denoiser(x, t, replace(cond or Cond(), estimate=torch.where(told, estimate, 0)))
