r"""Times fitted to a denoiser: the grid on which a sampler comes closest to the exact solution.

With X the exact solution of the flow ODE started at x, and x_N(theta) what a sampler of N steps makes of
the same x along the angles theta_0 > ... > theta_N = 0, theta = atan(sigma / alpha), the angles between
the ends minimise

    L = mean_b log(e_b + e_median / 10) / 2 + log(mean_b sqrt(e_b)) / 4 + 3 log(mean_b e_b) / 8,
    e_b = |x_N(theta) - X|^2 / D

over the examples b: the first term is the typical error, the others what single bad examples weigh. L is
lowered by Levenberg and Marquardt's method on the residuals x_N - X, reweighted so that their sum of
squares has the slope of L, with derivatives by finite differences of the sampler itself: the network is
called as in sampling, and never differentiated. Along the angles found, a multistep method has its weights
fitted too: see `reverie.weighing`. Whether they serve starts that were not fitted to is for `reverie.tuning` to
judge.

Pure computation: no file is read or written, no clock decides a result unless the budget runs out.

Letters in shapes: B batch, N steps, ... the shape of one example.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.grids import Angle, Grid
from reverie.samplers import Sampler, State
from reverie.samplers.adams import Adams
from reverie.samplers.multistep import History, Multistep
from reverie.samplers.weighed import Weighed
from reverie.sampling import generate
from reverie.schedules import Schedule
from reverie.tensors import host
from reverie.weighing import passed, weigh

Progress = Callable[[float, str], None]
"""Called with the fraction done, 0 to 1, and what is being done, in a few words."""


@dataclass(frozen=True)
class Error:
    """Distance from the reference a number of the data: its root mean square over examples, and its median."""

    rms: float
    median: float


@dataclass(frozen=True)
class FittedSteps:
    """The grid for one number of steps.

    `angles` are theta_0 ... theta_N, atan(sigma / alpha), decreasing from at most pi / 2 to 0 (N + 1).
    `errors` are those of grids by name: "fitted", "angle" (the generic grid), "log_snr", "karras", "uniform".
    """

    steps: int
    angles: tuple[float, ...]
    errors: dict[str, Error]
    weighed: tuple[Weighed, ...] = ()
    """The sampler with weights fitted along these angles, in the ways of `WEIGHTS`, if it is a multistep method."""


@dataclass(frozen=True)
class Fitted:
    """What `fit` found: one entry a number of steps, in the order asked for.

    `reference_error` is the distance between the reference and one of half as many steps, below which
    errors mean nothing.
    """

    grids: tuple[FittedSteps, ...]
    reference_error: Error
    seconds: float


def angles_of(schedule: Schedule, times: Tensor) -> Tensor:
    """theta = atan(sigma / alpha) at times (N,): pi / 2 where alpha = 0."""
    return torch.atan2(schedule.sigma(times), schedule.alpha(times))


def times_of(schedule: Schedule, angles: Tensor) -> Tensor:
    """The times (N,) at which atan(sigma / alpha) reaches these angles, the last exactly 0 if its angle is."""
    times = schedule.time(-2 * angles.tan().log())
    return torch.where(angles <= 0, torch.zeros_like(times), times)


class _Clock:
    """The time left, and how far the whole is."""

    def __init__(self, seconds: float, on_progress: Progress | None) -> None:
        self.began, self.seconds, self.told = time.monotonic(), seconds, on_progress
        self.until = self.began + seconds

    def spent(self) -> float:
        return time.monotonic() - self.began

    def say(self, done: float, what: str) -> None:
        if self.told is not None:
            self.told(min(1.0, max(0.0, done)), what)


class _Runs:
    """The sampler from x along any angles, with what the steps before a knot gave kept for its neighbours."""

    def __init__(self, f: Denoises, sampler: Sampler, x: Tensor, cond: Cond | None, start: float) -> None:
        self.f, self.sampler, self.x, self.cond = f, sampler, x, cond
        self.start = host(start)
        self.first = float(angles_of(f.schedule, self.start[None])[0])

    def times(self, angles: Tensor) -> Tensor:
        inner = times_of(self.f.schedule, angles[1:])
        return torch.cat([self.start[None], inner])

    def along(
        self, angles: Tensor, done: int = 0, x: Tensor | None = None, state: State = None
    ) -> list[tuple[Tensor, State]]:
        """x and the state before each step from number `done` on, and after the last."""
        times = self.times(angles)
        fresh = self.sampler.start(self.f.schedule, times)
        x = self.x if x is None else x
        state = replace(state, plan=fresh.plan) if isinstance(state, History) and done else (state if done else fresh)
        found = [(x, state)]
        with torch.no_grad():
            for t, s in zip(times[done:-1].unbind(), times[done + 1 :].unbind(), strict=True):
                x, state = self.sampler.step(self.f, x, t, s, self.cond, torch.zeros_like, state)
                found.append((x, state))
        return found

    def end(self, angles: Tensor) -> Tensor:
        """(B, D) float64 on the host."""
        return _flat(self.along(angles)[-1][0])


def _flat(x: Tensor) -> Tensor:
    return x.detach().flatten(1).to("cpu", torch.float64)


def error(x: Tensor, reference: Tensor) -> Error:
    """The distance between x and the reference, (B, ...) both."""
    each = ((_flat(x) - _flat(reference)) ** 2).mean(1)
    return Error(float(each.mean().sqrt()), float(each.sqrt().median()))


def _loss(e: Tensor) -> tuple[float, Tensor]:
    """L for squared errors e (B,), and its slope in each."""
    n = len(e)
    e = e + 1e-30
    floor = float(e.median()) / 10
    roots = e.sqrt()
    value = float((e + floor).log().mean() / 2 + roots.mean().log() / 4 + e.mean().log() * 3 / 8)
    return value, 1 / (e + floor) / (2 * n) + 1 / (8 * roots * roots.sum()) + 3 / (8 * e.sum())


def _widths(angles: Tensor) -> Tensor:
    return angles[:-1] - angles[1:]


def _from_widths(first: float, widths: Tensor) -> Tensor:
    """Angles from `first` to 0 whose steps are in proportion to `widths`."""
    share = widths / widths.sum()
    angles = first * share.flip(0).cumsum(0).flip(0)
    angles[0] = first
    return torch.cat([angles, angles.new_zeros(1)])


class _Fit:
    """One number of steps."""

    def __init__(self, runs: _Runs, target: Tensor, angles: Tensor, late: Callable[[], bool]) -> None:
        self.runs, self.target, self.late = runs, target, late
        self.damping = 1e-2
        self.move(angles)

    def move(self, angles: Tensor) -> None:
        self.angles, self.path = angles, self.runs.along(angles)
        self.residual = _flat(self.path[-1][0]) - self.target
        self.value, self.slope = _loss((self.residual**2).mean(1))

    def derivative(self) -> Tensor | None:
        """d residual / d log width, (N, B D): knot by knot, from the step that leads to it on."""
        angles, n = self.angles, len(self.angles) - 1
        by_knot = torch.zeros(n + 1, self.residual.numel(), dtype=torch.float64)
        gaps = torch.minimum(_widths(angles)[:-1], _widths(angles)[1:])
        exact = self.runs.x.dtype == torch.float64
        for i in range(1, n):
            if self.late():
                return None
            h = float(gaps[i - 1]) * (1e-4 if exact else 1e-2)
            moved = angles.clone()
            moved[i] += h
            x = self.runs.along(moved, i - 1, *self.path[i - 1])[-1][0]
            by_knot[i] = ((_flat(x) - self.target - self.residual) / h).flatten()
        share = _widths(angles) / angles[0]
        # d theta_i / d log w_j = theta_0 share_j ([j >= i] - theta_i / theta_0)
        chain = (torch.arange(n) >= torch.arange(n + 1)[:, None]).double() - (angles / angles[0])[:, None]
        return (angles[0] * share * chain).T @ by_knot

    def iterate(self, trials: int = 4) -> bool:
        """One step downhill; whether there was one worth taking."""
        j = self.derivative()
        if j is None:
            return False
        weights = self.slope.repeat_interleave(self.residual.shape[1])
        a, b = (j * weights) @ j.T, (j * weights) @ self.residual.flatten()
        scale = a.diagonal().clamp_min(float(a.diagonal().max()) * 1e-6)
        widths = _widths(self.angles)
        before = self.value
        for _ in range(trials):
            step = -torch.linalg.solve(a + self.damping * torch.diag(scale), b)
            step = step - step.mean()
            largest = float(step.abs().max())
            trial = _from_widths(self.runs.first, widths * torch.exp(step * min(1.0, 0.7 / max(largest, 1e-12))))
            value, _ = _loss(((self.runs.end(trial) - self.target) ** 2).mean(1))
            if math.isfinite(value) and value < before - 1e-6:
                self.damping = max(self.damping / 4, 1e-6)
                self.move(trial)
                return before - value > 2e-3
            self.damping *= 6
            if self.late():
                break
        return False


def reference(
    f: Denoises, x: Tensor, cond: Cond | None = None, *, start: float = 1.0, steps: int = 200, std: float = 1.0
) -> Tensor:
    """The flow ODE's solution at t = 0 from x (B, ...) at `start`: `Adams` on a fine grid, denser towards the data."""
    return generate(f, Adams(std=std), fine_times(f.schedule, start, steps), x, cond)


def fine_times(schedule: Schedule, start: float, steps: int) -> Tensor:
    """Times (N + 1,) from `start` to 0, denser towards both ends: the angle is cubic, flat at either.

    Networks change fast near pure noise too, where training hardly goes.
    """
    v = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    times = times_of(schedule, angles_of(schedule, host([start])) * (1 - 3 * v**2 + 2 * v**3))
    times[0] = start
    return times


def fit(
    f: Denoises,
    sampler: Sampler,
    counts: Sequence[int],
    x: Tensor,
    cond: Cond | None = None,
    *,
    start: float = 1.0,
    reference_steps: int = 200,
    budget_s: float = 120.0,
    searches: int = 8,
    standards: dict[str, Grid] | None = None,
    on_progress: Progress | None = None,
) -> Fitted:
    """Fit times for each number of steps.

    Args:
        f: the denoiser as it will be sampled from, guidance and clipping included.
        sampler: a deterministic sampler.
        counts: the numbers of steps to fit, each at least 1.
        x: (B, ...) at the time `start`, from which both the reference and the fit begin: `prior` gives
            it. 16 images serve, or some hundred points in the plane.
        cond: what the denoiser is told, for the B examples.
        start: the time of the first evaluation.
        reference_steps: of the fine solution.
        budget_s: about how many seconds the whole may take; a fit that is cut short returns the best
            it has. The references and the weights take what they take.
        searches: from how many beginnings the times are searched for, if there is time: L has many
            valleys.
        standards: grids to measure beside the fitted one, by name; each is asked for `with_steps(N)`.
        on_progress: told how far it is.

    Raises:
        ValueError: a sampler that draws noise, no counts, a count below 1, or a start outside (0, 1].
    """
    if not sampler.deterministic:
        raise ValueError(f"times are fitted to a deterministic sampler, such as Adams(); given {sampler}")
    if not counts or min(counts) < 1:
        raise ValueError(f"fit needs numbers of steps of at least 1; given {list(counts)}")
    if not 0 < start <= 1:
        raise ValueError(f"fit needs a start in (0, 1]; given {start}")
    clock = _Clock(budget_s, on_progress)
    clock.say(0.0, f"reference of {reference_steps} steps")
    weighable = isinstance(sampler, Multistep) and not isinstance(sampler, Weighed)
    std = sampler.spread if isinstance(sampler, Adams) else 1.0
    exact = reference(f, x, cond, start=start, steps=reference_steps, std=std)
    half = reference(f, x, cond, start=start, steps=max(1, reference_steps // 2), std=std)
    runs, target = _Runs(f, sampler, x, cond, start), _flat(exact)
    found: dict[int, FittedSteps] = {}
    order = sorted(set(counts))
    # the weights take one more fine solution, and a run of each number of steps for each way
    later = (reference_steps + len(WEIGHTS) * sum(order)) if weighable else 0
    for_times = clock.seconds - later * clock.spent() / (reference_steps + max(1, reference_steps // 2))
    for n in order:
        until = clock.spent() + (for_times - clock.spent()) * n / sum(m for m in order if m >= n)
        clock.say(clock.spent() / max(clock.seconds, clock.spent()), f"{n} steps")
        beginnings = _candidates(runs, n, found)
        angles = _fitted(runs, target, beginnings, searches, lambda until=until: clock.spent() > until)  # type: ignore[misc]
        errors = {"fitted": _error_of(runs, target, angles)}
        for name, grid in (standards or {}).items():
            times = grid.with_steps(n)(f.schedule)
            errors[name] = error(generate(f, sampler, times, x, cond), exact)
        found[n] = FittedSteps(n, tuple(angles.tolist()), errors)
    if weighable:
        clock.say(clock.spent() / max(clock.seconds, clock.spent()), "weights")
        found = _with_weights(runs, found, reference_steps, std)
    clock.say(1.0, "done")
    return Fitted(tuple(found[n] for n in counts), error(half, exact), clock.spent())


WEIGHTS = ((8, 1e-8, 4), (8, 1e-5, 4), (8, 1e-4, 0), (4, 1e-5, 0))
"""Ways to fit weights: values remembered, hold to the method's own weights, and rounds of weighing examples."""


def _with_weights(runs: _Runs, found: dict[int, FittedSteps], steps: int, std: float) -> dict[int, FittedSteps]:
    """With the weights that lead along each row of angles to where one more fine solution passes.

    A method that does not take the first step itself, from pure noise, has none.
    """
    schedule, sampler = runs.f.schedule, runs.sampler
    assert isinstance(sampler, Multistep)
    own = {n: runs.times(host(each.angles)) for n, each in found.items()}
    if any(None in sampler.plan(schedule, times, cross=False) for times in own.values()):
        return found
    wanted = sorted({a for each in found.values() for a in each.angles[1:]}, reverse=True)
    fine = fine_times(schedule, float(runs.start), steps)
    where = dict(zip(wanted, passed(runs.f, Adams(std=std), fine, runs.x, wanted, runs.cond), strict=True))
    made = {}
    for n, each in found.items():
        targets = [where[a] for a in each.angles[1:]]
        ways = (
            weigh(runs.f, sampler, own[n], runs.x, targets, runs.cond, memory=memory, ridge=ridge, rounds=rounds)
            for memory, ridge, rounds in WEIGHTS
        )
        made[n] = replace(each, weighed=tuple(ways))
    return made


def _error_of(runs: _Runs, target: Tensor, angles: Tensor) -> Error:
    return error(runs.end(angles), target)


def _fitted(runs: _Runs, target: Tensor, beginnings: list[Tensor], searches: int, late: Callable[[], bool]) -> Tensor:
    """The best angles, searched from the best beginnings and then from near the best found."""
    tried = []
    for angles in beginnings:
        value, _ = _loss(((runs.end(angles) - target) ** 2).mean(1))
        tried.append((value, angles))
    tried.sort(key=lambda pair: pair[0])
    best, n = tried[0], len(tried[0][1]) - 1
    if n == 1:
        return best[1]
    generator = torch.Generator().manual_seed(n)
    for attempt in range(searches):
        if attempt < 3:
            begin = tried[attempt][1]
        else:
            shaken = torch.randn(n, generator=generator, dtype=torch.float64) * 0.25
            begin = _from_widths(runs.first, _widths(best[1]) * shaken.exp())
        if late():
            break
        search = _Fit(runs, target, begin, late)
        for _ in range(40):
            if late() or not search.iterate():
                break
        if search.value < best[0]:
            best = search.value, search.angles
    return best[1]


def _candidates(runs: _Runs, n: int, found: dict[int, FittedSteps]) -> list[Tensor]:
    """Where to begin: the generic grid for several stds, and the curve of the number of steps fitted before."""
    made = []
    for std in (0.05, 0.15, 0.35, 0.7, 1.4):
        angles = angles_of(runs.f.schedule, Angle(n, std=std)(runs.f.schedule))
        made.append(_from_widths(runs.first, _widths(angles)))
    if found:
        known = torch.tensor(found[max(found)].angles, dtype=torch.float64)
        at = torch.arange(n + 1, dtype=torch.float64) * (len(known) - 1) / n
        below = at.floor().long().clamp_max(len(known) - 2)
        made.append(torch.lerp(known[below], known[below + 1], at - below))
    return made
