"""What a loss is.

Letters in shapes: B batch, G examples of a whole step, ... the shape of one example.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.config import Part
from reverie.denoiser import Denoises
from reverie.grids import Grid
from reverie.losses.times import Times
from reverie.parameterizations import Parameterization
from reverie.prediction import Prediction
from reverie.samplers.base import Sampler
from reverie.schedules import Schedule
from reverie.tensors import Noise


class Bring(Protocol):
    """What a loss may ask for of the run that it trains."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example, as the model sees it."""
        ...

    def stage(self, name: str) -> Any:  # noqa: ANN401  # a model, of the kind that the loss knows it to be
        """The trained model of that stage of the run."""
        ...


class Loss(Part, abc.ABC, family="loss"):
    """A loss by example. Its randomness is an argument, and so is what it remembers.

    A loss with a teacher `needs` the stage that it is, and knows it once it is `opened`.
    """

    trains: str = "denoiser"
    """The kind of model that it is a loss of: denoiser, classifier, pair or autoencoder, as `Recipe.kind` says."""
    self_conditions: bool = False
    """Whether the network is to be given its own estimate of x0 (Chen et al., 2023)."""
    quantised: bool = False
    """Whether x0 must be 8-bit pixels in [-1, 1]."""
    positive: bool = True
    """Whether it is never below 0."""
    apart: bool = False
    """Whether the gradient of what it learns is clipped apart from the model's, as that of a critic is none of its."""
    flows: bool = True
    """Whether what it trains says the mean of x0 given x, so that it has a flow ODE that any solver may follow."""
    rests: bool = False
    """Whether there are steps in which the model has no gradient at all, and only what the loss learns moves."""
    needs: tuple[str, ...] = ()
    """The stages of the run that it learns from: see `reverie.stages`."""
    anew: bool = False
    """Whether a network may begin with the weights of one whose output stands for something else."""
    leaps: bool = False
    """Whether the network is told where its step ends: `Cond.until`."""
    scales: bool = False
    """Whether the network is told the scale of guidance that it does by itself: `Cond.scale`."""

    @abc.abstractmethod
    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        """The times (B,) that u (B,) in [0, 1) stands for."""

    @abc.abstractmethod
    def __call__(
        self,
        f: Any,  # noqa: ANN401  # a `Denoises`, or what `trains` says
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        """(B,), for data x0 (B, ...) and u (B,) float64 in [0, 1), where each example's time falls.

        Without its `memory` a loss is what it was before anything was learned.
        """

    def memory(self, bring: Bring | None = None) -> nn.Module | None:
        """A new module of what the loss learns (parameters) or remembers (buffers) in training, if anything.

        Args:
            bring: what it may need of the run; most need nothing.
        """
        return None

    def opened(self, bring: Bring) -> Loss:
        """The loss with the models of the stages that it `needs`; itself, where it needs none."""
        return self

    def observe(self, memory: nn.Module | None, u: Tensor, values: Tensor) -> None:
        """Put the step just done into the memory's buffers.

        Args:
            memory: as it was when the loss was computed.
            u: (G,), of all examples of the step on all processes.
            values: (G,), their losses.
        """

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """Refuse a process or a parameterization that this loss cannot train.

        Raises:
            ValueError: it cannot, with what could.
        """

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        """Refuse to sample what this loss has trained in a way that makes no sense for it; most take any.

        Raises:
            ValueError: naming the way that does.
        """


class OneLevel(Loss):
    """A loss that looks at one noise level an example: a field `times`, and the value of what was noised."""

    times: Times

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.times(u, schedule)

    def paired(self, x0: Tensor, eps: Tensor, cond: Cond | None) -> Tensor:
        """The noise (B, ...) that each example is mixed with: `eps`, or its rows in another order."""
        return eps

    @abc.abstractmethod
    def value(self, f: Any, truth: Prediction, t: Tensor, cond: Cond | None) -> Tensor:  # noqa: ANN401  # as for `Loss`
        """(B,), for the x0, eps and x (B, ...) of `truth`, at t (B,)."""

    def __call__(
        self,
        f: Any,  # noqa: ANN401  # as for `Loss`
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        t, eps = self.times(u, f.schedule), self.paired(x0, noise(x0), cond)
        return self.value(f, Prediction.of(x0, eps, f.schedule.at(t, like=x0)), t, cond)


class Pointwise(OneLevel):
    """A loss of one noise level an example that asks the denoiser once.

    A subclass has a field `times` and says how far the guess is from the truth.
    """

    @abc.abstractmethod
    def compare(self, truth: Prediction, guess: Prediction, schedule: Schedule) -> Tensor:
        """(B,), for the x0 and eps that x was made of and those that the denoiser says."""

    def value(self, f: Denoises, truth: Prediction, t: Tensor, cond: Cond | None) -> Tensor:
        return self.compare(truth, f(truth.x, t, cond), f.schedule)


class Around(Loss):
    """A loss around another one, the field `loss`, whose times it has."""

    loss: Loss

    @property
    def trains(self) -> str:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.trains

    @property
    def self_conditions(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.self_conditions

    @property
    def quantised(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.quantised

    @property
    def positive(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.positive

    @property
    def apart(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.apart

    @property
    def flows(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.flows

    @property
    def rests(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.rests

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.needs

    @property
    def leaps(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.leaps

    @property
    def scales(self) -> bool:  # type: ignore[override]
        """As the loss inside."""
        return self.loss.scales

    def opened(self, bring: Bring) -> Self:
        """With the loss inside opened."""
        return replace(self, loss=self.loss.opened(bring)) if self.needs else self  # type: ignore[type-var]

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        self.loss.check_sampling(sampler, grid, schedule, guidance)

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.loss.times_at(u, schedule)

    def memory(self, bring: Bring | None = None) -> nn.Module | None:
        return self.loss.memory(bring)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """As the loss inside, whose settings are named from here.

        Raises:
            ValueError: with what would fit.
        """
        with inside():
            self.loss.check(schedule, parameterization)


@contextmanager
def inside() -> Iterator[None]:
    """What a loss inside another one says of its settings, `loss.times`, is named from outside, `loss.loss.times`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"(?<![.\w])loss\.(?=[a-z])", "loss.loss.", str(error))) from None


def layers(loss: Loss) -> Iterator[Loss]:
    """A loss, the one that it stands around, and so on inwards."""
    yield loss
    if isinstance(loss, Around):
        yield from layers(loss.loss)
