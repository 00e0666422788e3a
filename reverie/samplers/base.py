"""What a sampler is."""

from __future__ import annotations

import abc
from typing import Any

from torch import Tensor

from reverie.conditioning import Cond
from reverie.config import Part
from reverie.denoiser import Denoises
from reverie.schedules import Schedule
from reverie.tensors import Noise, host

State = Any
"""What a sampler carries from step to step; None for one-step methods."""


class Sampler(Part, abc.ABC, family="sampler"):
    """Moves x from noise level t to s < t. A frozen dataclass of settings, never of a run's state.

    `step` receives the denoiser itself and calls it as often, and where, as its algorithm says; it
    never asks about t = 0. It returns its state instead of keeping it, so a sampler can serve any
    number of runs at once, and a step computed twice gives the same answer twice.
    """

    order: int = 1
    """The order of convergence of the deterministic method."""

    @property
    def deterministic(self) -> bool:
        """Whether it never draws noise: it solves the flow ODE."""
        return False

    @property
    def adaptive(self) -> bool:
        """Whether the data, by a tolerance, decide how often it asks the denoiser, and not the times alone."""
        return False

    @property
    def invertible(self) -> bool:
        """Whether its steps may also be taken from less noise to more, beginning at the data."""
        return False

    def init(self) -> State:
        """The state before the first step, when the times ahead are not known."""
        return None

    def start(self, schedule: Schedule, times: Tensor) -> State:
        """The state before the first step along `times` (N + 1,), with all that can be computed ahead of the loop.

        The steps are the same, to rounding, as from `init`.
        """
        return self.init()

    def check(self, schedule: Schedule, times: Tensor) -> None:
        """Refuse times (N + 1,) that this sampler cannot follow on a schedule; most follow any.

        Raises:
            ValueError: it cannot; the message says which times would do.
        """

    @abc.abstractmethod
    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        """x (B, ...) at s, and the next state. t and s are () or (B,), t > s >= 0."""


def at_data(s: Tensor) -> bool:
    """Whether a step to `s` is the last one, for every example."""
    return bool((s == 0).all())


def check_signal(sampler: Sampler, schedule: Schedule, times: Tensor) -> None:
    """For samplers that divide by alpha: refuse times at which it is 0.

    Raises:
        ValueError: naming such a time, and grids that start below it.
    """
    times = host(times).flatten()
    silent = times[schedule.alpha(times) == 0]
    if len(silent):
        raise ValueError(
            f"{type(sampler).__name__} divides by alpha, and {type(schedule).__name__} has alpha = 0 at t = "
            f"{float(silent[0]):g}: begin just below, with grid.kind=uniform grid.start=0.999, or take a grid told in "
            f"sigma / alpha, such as grid.kind=log_snr"
        )
