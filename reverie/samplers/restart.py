"""Restart sampling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.samplers.base import Sampler, State
from reverie.samplers.heun import Heun
from reverie.schedules import Schedule
from reverie.tensors import Noise, combined, host, number


@dataclass(frozen=True)
class _Run:
    """The state of the solver, the states it begins with at the top of the interval and below it, and the interval."""

    solver: State
    again: State
    below: State
    interval: Tensor | None = None


@dataclass(frozen=True)
class Restart(Sampler, kind="restart"):
    r"""The steps of `solver`; once sigma / alpha has fallen to `low`, `repeats` times back up to `high` and down again.

        x_high = alpha_high / alpha_low x_low + sqrt(sigma_high^2 - (alpha_high sigma_low / alpha_low)^2) z

    Xu et al. (2023), algorithm 1, for any schedule: the way up is the process itself, so a law that is right at `low`
    stays right; the way down is the solver's, in `steps` steps spaced as in Karras et al. (2022), eq. 5, rho = 7.
    What the solver has got wrong above `low` is drowned in fresh noise and done anew, each time by the same factor,
    while a deterministic solver carries it to the end.

    The grid's step across `low` is divided there, at the cost of one step. For more than one interval put a Restart
    into a Restart. `high` is lowered to what the schedule reaches. Their setting for CIFAR-10 is low 0.06 and
    high 0.2 to 0.3 with one or a few repeats.

    Raises:
        ValueError: unless 0 < low < high, steps >= 1 and repeats >= 1; for times, unless the schedule reaches more
            than `low`.
    """

    solver: Sampler = field(default_factory=Heun)
    low: float = 0.06
    high: float = 0.3
    repeats: int = 2
    steps: int = 3

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high and self.repeats >= 1 and self.steps >= 1):
            raise ValueError(
                f"Restart needs 0 < low < high, repeats >= 1 and steps >= 1; given low={self.low}, high={self.high}, "
                f"repeats={self.repeats}, steps={self.steps}"
            )

    def check(self, schedule: Schedule, times: Tensor) -> None:
        self.solver.check(schedule, self.interval(schedule))
        self.solver.check(schedule, times)

    def interval(self, schedule: Schedule) -> Tensor:
        """The times (steps + 1,) from `high` to `low`.

        Raises:
            ValueError: the schedule does not reach `low`.
        """
        reached = float(torch.exp(-schedule.log_snr(host(1.0)) / 2))
        if reached <= self.low:
            raise ValueError(
                f"Restart goes up from sigma / alpha = {self.low:g}, and {type(schedule).__name__} reaches "
                f"{reached:.4g}: lower sampler.low"
            )
        root = torch.linspace(
            min(self.high, reached) ** (1 / 7), self.low ** (1 / 7), self.steps + 1, dtype=torch.float64
        )
        return schedule.time(-14 * root.log())

    def init(self) -> State:
        return _Run(self.solver.init(), self.solver.init(), self.solver.init())

    def start(self, schedule: Schedule, times: Tensor) -> State:
        times, interval = host(times), self.interval(schedule)
        low = interval[-1:]
        above, below = torch.cat([times[times > low], low]), torch.cat([low, times[times < low]])
        first, again, then = (self._started(schedule, part) for part in (above, interval, below))
        return _Run(first, again, then, interval)

    def _started(self, schedule: Schedule, times: Tensor) -> State:
        return self.solver.start(schedule, times) if len(times) > 1 else self.solver.init()

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        interval = self.interval(f.schedule) if state.interval is None else state.interval
        low = interval[-1]
        across = (s <= low) & (low < t)
        if across.ndim and not bool((across == across[0]).all()):
            return self._apart(f, x, t, s, cond, noise, across), state
        if not bool(across.all()):
            x, solver = self.solver.step(f, x, t, s, cond, noise, state.solver)
            return x, replace(state, solver=solver)

        def fresh(like: Tensor) -> Tensor:  # the increments of a Brownian path here have been used on the way to low
            return noise(like)

        x, _ = self.solver.step(f, x, t, low, cond, noise, state.solver)
        for _ in range(self.repeats):
            x, solver = _raised(f.schedule, x, low, interval[0], noise), state.again
            for high, lower in pairwise(interval.unbind()):
                x, solver = self.solver.step(f, x, high, lower, cond, fresh, solver)
        if bool((s == low).all()):
            return x, replace(state, solver=state.below)
        x, solver = self.solver.step(f, x, low, s, cond, noise, state.below)
        return x, replace(state, solver=solver)

    def _apart(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, across: Tensor
    ) -> Tensor:
        """A step of examples at times of their own, of which only those `across` (B,) restart."""
        out = torch.empty_like(x)
        for chosen in (across, ~across):
            rows = chosen.nonzero().flatten().to(x.device)
            at, to = (a.expand(len(x))[chosen] for a in (t, s))

            def drawn(like: Tensor, rows: Tensor = rows) -> Tensor:
                return noise(x)[rows]

            told = None if cond is None else cond[rows]
            out[rows] = self.step(f, x[rows], at, to, told, drawn, self.init())[0]
        return out


def _raised(schedule: Schedule, x: Tensor, low: Tensor, high: Tensor, noise: Noise) -> Tensor:
    """x at the time `high`, from x at the time `low` below it."""
    a, b = schedule.at(low, like=x), schedule.at(high, like=x)
    kept = b.alpha / a.alpha
    added = (b.sigma**2 - (kept * a.sigma) ** 2).sqrt()
    return combined([(number(kept), x), (number(added), noise(x))])
