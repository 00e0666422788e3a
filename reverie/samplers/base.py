"""What a sampler is."""

from __future__ import annotations

import abc
from typing import Any, ClassVar

from torch import Tensor

from reverie.conditioning import Cond
from reverie.config import Part
from reverie.denoiser import Denoises
from reverie.tensors import Noise

State = Any
"""What a sampler carries from step to step; None for one-step methods."""


class Sampler(Part, abc.ABC, family="sampler"):
    """Moves x from noise level t to s < t. A frozen dataclass of settings, never of a run's state.

    `step` receives the denoiser itself and calls it as often, and where, as its algorithm says; it
    never asks about t = 0. It returns its state instead of keeping it, so a sampler can serve any
    number of runs at once, and a step computed twice gives the same answer twice.
    """

    order: ClassVar[int] = 1
    """The order of convergence of the deterministic method."""

    @property
    def deterministic(self) -> bool:
        """Whether it never draws noise, so that it can be inverted."""
        return False

    def init(self) -> State:
        """The state before the first step."""
        return None

    @abc.abstractmethod
    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        """x (B, ...) at s, and the next state. t and s are () or (B,), t > s >= 0."""


def at_data(s: Tensor) -> bool:
    """Whether a step to `s` is the last one, for every example."""
    return bool((s == 0).all())
