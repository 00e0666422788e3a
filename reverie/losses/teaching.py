"""Losses with a teacher: a trained model whose own predictions, or sampler steps, are what is learned.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, Rescheduled, ToldScale, reads_scale
from reverie.grids import Grid, Uniform
from reverie.guidance import AutoGuided, ClassifierFree
from reverie.losses.base import Bring, Loss, inside
from reverie.losses.denoising import Denoising
from reverie.parameterizations import Parameterization
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Sampler
from reverie.schedules import Level, Schedule
from reverie.tensors import Noise


@dataclass(frozen=True)
class Taught(Loss):
    """A loss with a teacher, which may be guided: what guidance did with two evaluations the student does with one.

    Args:
        guidance: the lowest and the highest scale of the teacher's guidance; 1 is none. Where they differ, each
            example has one of its own, uniform between them, and the student is told it (Meng et al., 2023, section 3).
        led: by classifier-free guidance, or away from the stage `weaker` (Karras et al., 2024); or `within`
            the teacher, which is a student itself and has learned it.

    Raises:
        ValueError: scales below 0, or the lowest above the highest.
    """

    guidance: tuple[float, float] = field(default=(1.0, 1.0), kw_only=True)
    led: Literal["classifier_free", "auto", "within"] = field(default="classifier_free", kw_only=True)

    def __post_init__(self) -> None:
        low, high = self.guidance
        if not 0 <= low <= high or not math.isfinite(high):
            raise ValueError(
                f"loss.guidance is the lowest and the highest scale of the teacher's guidance, such as [1, 4], or "
                f"[2, 2] for one; given {list(self.guidance)}"
            )
        if not self.taught and (high != 1 or low != 1 or self.led != "classifier_free"):
            raise ValueError(
                "loss.guidance and loss.led are of a teacher, and loss.taught=false has none: leave them out"
            )

    @property
    def taught(self) -> bool:
        """Whether there is a teacher; some of these losses can do without."""
        return True

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        """The teacher, and the model that it is led away from."""
        return (("teacher", "weaker") if self.led == "auto" else ("teacher",)) if self.taught else ()

    @property
    def scales(self) -> bool:  # type: ignore[override]
        """Whether there are several."""
        return self.taught and self.guidance[0] < self.guidance[1]

    def opened(self, bring: Bring) -> Self:
        return self.taught_by(*(bring.stage(name) for name in self.needs)) if self.needs else self

    @property
    def solves(self) -> tuple[Sampler, Grid]:
        """How the teacher is sampled in a lesson: one that has learned steps of its own has to have learned these."""
        return DDIM(), Uniform(1000)

    def taught_by(self, teacher: Denoises, weaker: Denoises | None = None) -> Self:
        """The same with its teacher, and the model that this is led away from if there is one."""
        made = copy.copy(self)
        object.__setattr__(made, "_teachers", (teacher, weaker))  # no setting: no file has it
        return made

    def lesson(self, f: Denoises, x0: Tensor, cond: Cond | None, noise: Noise) -> tuple[Denoises, Cond | None]:
        """The teacher on the process of f, guided as it is for each example; and what the student is told.

        Raises:
            ValueError: the loss has not been opened.
        """
        low, high = self.guidance
        if not self.scales:
            return self._guided(f, x0, low), cond
        scale = low + (high - low) * torch.special.ndtr(noise(x0).flatten(1)[:, 0])
        return self._guided(f, x0, scale), replace(cond or Cond(), scale=scale)

    def leading(
        self, f: Denoises, truth: Prediction, t: Tensor, cond: Cond | None, noise: Noise
    ) -> tuple[Prediction, Cond | None]:
        """What says where the path goes that passes x at t, the teacher or the truth itself; and what f is told."""
        if not self.taught:
            return truth, cond
        teacher, told = self.lesson(f, truth.x0, cond, noise)
        with torch.no_grad():
            return teacher(truth.x, t, cond), told

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """Refuse a network that puts out a variance.

        Raises:
            ValueError: it does.
        """
        if parameterization.outputs > 1:
            raise ValueError(
                f"{type(parameterization).__name__} puts out a variance, which loss.kind={self.kind} does not train; "
                f"use a parameterization without it"
            )

    def _guided(self, f: Denoises, x0: Tensor, scale: float | Tensor) -> Denoises:
        given: tuple[Denoises | None, Denoises | None] = getattr(self, "_teachers", (None, None))
        teacher, weaker = given
        if teacher is None:
            raise ValueError(
                f"loss.kind={self.kind} has a teacher, and is not opened: call `taught_by` or `opened` first"
            )
        for model in (teacher, weaker):
            if isinstance(model, torch.nn.Module):
                model.to(x0.device)
        if isinstance(scale, float) and scale == 1:
            guided: Denoises = teacher
        elif self.led == "within":
            guided = ToldScale(teacher, scale) if reads_scale(teacher) else teacher
        elif self.led == "auto":
            assert weaker is not None
            guided = AutoGuided(teacher, weaker, scale)
        else:
            guided = ClassifierFree(teacher, scale)
        return guided if teacher.schedule == f.schedule else Rescheduled(guided, f.schedule)

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        """Refuse a scale of guidance that the student has not learned.

        Raises:
            ValueError: with those that it has.
        """
        low, high = self.guidance
        if self.scales and not low <= guidance <= high:
            raise ValueError(f"this model has learned guidance of {low:g} to {high:g}; given guidance={guidance:g}")
        if self.taught and not self.scales and low != 1 and guidance != 1:
            raise ValueError(
                f"guidance of {low:g} is part of what this model has learned, and guidance={guidance:g} would be added "
                f"to it: leave it at 1"
            )


class ByDenoising(Taught):
    """A loss whose guess is compared by a denoising loss inside, at its times."""

    loss: Denoising

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.loss.times_at(u, schedule)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """As the loss inside, whose settings are named from here.

        Raises:
            ValueError: with what would fit.
        """
        with inside():
            self.loss.check(schedule, parameterization)


class OnGrid(Taught):
    """A loss of the N steps of a grid of the student's own, which can be sampled along no other."""

    grid: Grid
    flows = False

    def step(self, u: Tensor, schedule: Schedule) -> Tensor:
        """(B,), the number of the step that u (B,) stands for: they are as likely."""
        steps = len(self.grid(schedule)) - 1
        return (u * steps).long().clamp(max=steps - 1)

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.grid(schedule)[self.step(u, schedule)]

    def is_own(self, grid: Grid, schedule: Schedule) -> bool:
        """Whether a grid has the times of this one."""
        own, asked = self.grid(schedule), grid(schedule)
        return len(own) == len(asked) and torch.allclose(own, asked, rtol=0, atol=1e-9)


class Steps(torch.nn.Module):
    """How many steps of training are done."""

    done: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("done", torch.zeros((), dtype=torch.int64))


class Counting(Loss):
    """A loss that remembers how many steps of training are done."""

    def memory(self, bring: Bring | None = None) -> Steps | None:
        return Steps()

    def observe(self, memory: torch.nn.Module | None, u: Tensor, values: Tensor) -> None:
        assert isinstance(memory, Steps)
        memory.done += 1


def landing(x: Tensor, a: Level, z: Tensor, b: Level) -> Prediction:
    r"""What to say of x (B, ...) at level a so that one step of DDIM comes to z (B, ...) at level b.

        x0 = (sigma_a z - sigma_b x) / (sigma_a alpha_b - sigma_b alpha_a)

    Salimans & Ho (2022), appendix G, eq. 43 and 44.
    """
    x0 = (a.sigma * z - b.sigma * x) / (a.sigma * b.alpha - b.sigma * a.alpha)
    return Prediction.from_x0(x0, x, a)
