"""Guidance by a gradient: another model says how much x_t shows of what is wanted, and x0 is moved to show more.

Letters in shapes: B batch, K classes, E width of an embedding, ... the shape of one example.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises, FixedRows, Wrapper, by_row
from reverie.prediction import Prediction
from reverie.schedules import Schedule
from reverie.tensors import host


class Pull(abc.ABC):
    """What is to be raised, as a function of x_t, and its gradient."""

    by_row: bool = False
    """Whether it holds something of each example."""

    @property
    @abc.abstractmethod
    def schedule(self) -> Schedule:
        """The process that the other model knows."""

    @abc.abstractmethod
    def rows(self, cond: Cond | None, like: Tensor) -> Tensor | None:
        """Which examples of a batch like (B, ...) are pulled, (B,) bool; None for none at all."""

    @abc.abstractmethod
    def value(self, x: Tensor, t: Tensor, cond: Cond | None, index: Tensor) -> Tensor:
        """What is to be raised, (B,), for x at t of its own schedule; `index` (B,) numbers the examples."""

    def gradient(
        self, schedule: Schedule, x: Tensor, t: Tensor, cond: Cond | None = None, at_once: int | None = None
    ) -> Tensor | None:
        """The gradient by x (B, ...) at t of `schedule`, 0 where an example is not pulled; None: nowhere.

        The other model sees x at its own level of the same sigma / alpha, as `Rescheduled` does, and the
        chain rule brings the gradient back. It is taken of `at_once` examples at a time, the last ones filled
        up with the first again, so that rounding does not depend on the batch; of all of them if None.
        """
        pulled = self.rows(cond, x)
        if pulled is None:
            return None

        def part(index: Tensor) -> Tensor:
            own_t = t[index.to(t.device)] if t.ndim and len(t) == len(x) else t
            own = None if cond is None else cond[index]

            def raised(leaf: Tensor) -> Tensor:
                return self.value(*matched(self.schedule, schedule, leaf, own_t), own, index)

            return gradient(raised, x[index])

        found = _in_parts(part, x, at_once)
        return torch.where(pulled.reshape((-1,) + (1,) * (x.ndim - 1)), found, torch.zeros_like(found))


class Pulled(Wrapper):
    """eps - scale sigma g, with g the gradient of a `Pull`; x0 + scale sigma^2 / alpha g follows.

    The move is of the score, by scale g, and so the same whatever notation the denoiser speaks (Dhariwal &
    Nichol, 2021, algorithm 2, for any schedule). Where alpha = 0, x holds nothing of the data and nothing
    moves. A learned variance is kept.
    """

    def __init__(self, denoiser: Denoises, pull: Pull, scale: float) -> None:
        super().__init__(denoiser)
        self.pull, self.scale = pull, scale

    @property
    def by_row(self) -> bool:
        """Also where the pull holds something of each example."""
        return self.pull.by_row or by_row(self.denoiser)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        q = self.denoiser(x, t, cond)
        if self.scale == 0:
            return q
        g = self.pull.gradient(self.schedule, x, t, cond, fixed_rows(self.denoiser))
        if g is None:
            return q
        a, b = q.level.alpha, q.level.sigma
        some = a > 0
        up = torch.where(some, self.scale * b**2 / torch.where(some, a, 1.0), 0.0)
        return Prediction(x, q.level, q.x0 + up * g, q.eps - torch.where(some, self.scale * b, 0.0) * g, q.var)


def gradient(of: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of `of`, (B, ...) to (B,) row by row, at x (B, ...); also where gradients are off."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        (found,) = torch.autograd.grad(of(leaf).sum(), leaf)
    return found


def matched(own: Schedule, schedule: Schedule, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """x and t as they are on the schedule `own`, where sigma / alpha is what it is at t on `schedule`.

    A level beyond its noisiest is read there.
    """
    if own == schedule:
        return x, t
    own_t = own.time(schedule.log_snr(host(t)))
    level, there = schedule.at(t, like=x), own.at(own_t, like=x)
    return ((there.alpha**2 + there.sigma**2) / (level.alpha**2 + level.sigma**2)).sqrt() * x, own_t


def fixed_rows(f: Denoises) -> int | None:
    """How many rows the denoiser inside all wrappers sees at a time; None where that is not fixed."""
    inside: object = f
    while inside is not None:
        if isinstance(inside, FixedRows):
            return inside.rows
        inside = getattr(inside, "denoiser", None)
    return None


def _in_parts(function: Callable[[Tensor], Tensor], x: Tensor, at_once: int | None) -> Tensor:
    """The function of all rows of x, by their numbers, `at_once` at a time and the last filled up."""
    n = len(x)
    rows = n if at_once is None else at_once
    parts = [function(torch.arange(i, i + rows, device=x.device) % n) for i in range(0, n, rows)]
    return parts[0][:n] if len(parts) == 1 else torch.cat(parts)[:n]
