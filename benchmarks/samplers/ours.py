"""Reverie's own deterministic samplers on its grids, and on grids fitted to the problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

import reverie
from benchmarks.samplers.peers_base import Sampled, Setting
from benchmarks.samplers.problems import DOUBLE, STARTS, Problem
from benchmarks.samplers.reference import Asked
from reverie.config import registered
from reverie.grids import Grid
from reverie.recipe import Sampling
from reverie.samplers import Sampler
from reverie.spaces import Pixels

EVERY = tuple(STARTS)
GENERIC, FITTED, DEFAULT = "generic", "fitted", "default"
"""Roles in the tables: the shipped grid, the one fitted to the problem, and what `reverie sample` does unless told."""


CHOICES = {
    FITTED: "`adams`, tuned",
    GENERIC: "`adams`, angle: the default",
    "Adams 3, angle": "`adams` of order 3, angle",
    "Adams 2, angle": "`adams` of order 2, angle",
    "DPM-Solver++ 2M, angle": "`dpmpp_2m`, angle",
    "DPM-Solver++ 2M, Karras": "`dpmpp_2m`, karras",
    "UniPC 3, angle": "`unipc`, angle",
    "DEIS 3, Karras": "`deis`, karras",
    "midpoint, angle": "`midpoint`, angle",
    "RK4, angle": "`rk4`, angle",
    "Heun, angle": "`heun`, angle",
    "Heun, Karras": "`heun`, karras",
    "DDIM, angle": "`ddim`, angle",
    "DDIM, uniform": "`ddim`, uniform",
}
"""What docs/choosing.md compares, and its names for them."""


@cache
def evaluations(sampler: Sampler, steps: int) -> int:
    """How many `sampler` takes for so many steps: counted, in the small."""
    schedule = reverie.LinearVP()
    problem = Problem(
        "", "vp_linear", lambda s: reverie.Gaussian(s, torch.zeros(1, dtype=DOUBLE), 1.0), torch.ones(1, 1)
    )
    ask = Asked(problem)
    reverie.generate(ask.under(schedule), sampler, reverie.LogSNR(steps)(schedule), torch.ones(1, 1, dtype=DOUBLE))
    return ask.calls


def most_steps(sampler: Sampler, budget: int) -> int:
    """The most steps that take at most `budget` evaluations.

    Raises:
        ValueError: not even one does.
    """
    each = evaluations(sampler, 6) - evaluations(sampler, 5)
    steps = (budget - evaluations(sampler, 5)) // each + 5
    while steps > 0 and evaluations(sampler, steps) > budget:
        steps -= 1
    if steps < 1:
        raise ValueError(f"{budget} evaluations are too few")
    return steps


def setting(
    name: str,
    sampler: Sampler,
    grid: Grid,
    default: bool = False,
    shown: bool = False,
    starts: tuple[str, ...] = EVERY,
) -> Setting:
    """A sampler on a grid, which is given the number of steps."""

    def run(ask: Asked, noise: Tensor, start: str, budget: int) -> Sampled:
        return followed(ask, noise, start, sampler, grid.with_steps(most_steps(sampler, budget)))

    return Setting("reverie", name, run, starts, default, shown)


def followed(ask: Asked, noise: Tensor, start: str, sampler: Sampler, grid: Grid) -> Sampled:
    """The samples of a sampler along a grid, both told of the data as `reverie sample` tells them."""
    schedule = STARTS[start]
    sampler, grid = told(ask.problem, sampler, grid)
    times = grid(schedule)
    level = schedule.at(times[0], like=noise)
    x = reverie.generate(ask.under(schedule), sampler, times, level.sigma * noise, ask.cond)
    return Sampled(x, float(level.alpha), float(level.sigma))


def told(problem: Problem, sampler: Sampler, grid: Grid) -> tuple[Sampler, Grid]:
    """Both with what a run fills in: that of a network says its data are pixels; mixtures are of variance 1."""
    if not problem.network:
        return sampler, grid
    sample = Sampling(sampler, grid).completed(Pixels(), problem.noise.shape[1:])
    return sample.sampler, sample.grid


def sampler_of(kind: str, **options: object) -> Sampler:
    """The sampler of a kind."""
    return registered(Sampler)[kind](**options)


def ours() -> Sampler:
    """The solver that the tables put beside the peers."""
    return sampler_of("adams")


def settings() -> list[Setting]:
    """Those compared, but for the fitted ones."""
    angle = registered(Grid)["angle"]()
    sample = Sampling()
    found = [
        setting(DEFAULT, sample.sampler, sample.grid, True, True),
        setting(GENERIC, ours(), angle, True, True),
    ]
    grids = {"angle": angle, "Karras": reverie.Karras(), "log-SNR": reverie.LogSNR(), "uniform": reverie.Uniform()}
    methods = {
        "Adams 2": sampler_of("adams", order=2),
        "Adams 3": sampler_of("adams", order=3),
        "Adams 4": sampler_of("adams", order=4),
        "DPM-Solver++ 2M": sampler_of("dpmpp", order=2),
        "DPM-Solver++ 3M": sampler_of("dpmpp", order=3),
        "UniPC 2": sampler_of("unipc", p=2),
        "UniPC 3": sampler_of("unipc", p=3),
        "DEIS 3": sampler_of("deis", order=3),
        "LMS 3": sampler_of("lms", order=3),
        "PNDM": sampler_of("pndm"),
        "Heun": sampler_of("heun"),
        "midpoint": sampler_of("midpoint"),
        "RK4": sampler_of("rk4"),
        "DDIM": sampler_of("ddim"),
    }
    for name, sampler in methods.items():
        for kind, grid in grids.items():
            if kind in ("angle", "Karras") or name in ("Adams 3", "DPM-Solver++ 3M", "DDIM"):
                found.append(setting(f"{name}, {kind}", sampler, grid, shown=f"{name}, {kind}" in CHOICES))
    return found


HELD = 3
"""Seed of the starts on which it is judged what of a fit to keep."""


def fitted(problem: Problem, budgets: Sequence[int], seconds: float, weights: bool = True) -> tuple[Setting, Grid]:
    """The solver as `reverie tune` fits it: times and weights from practice noise, for about `seconds`.

    What is kept is judged on noise that is neither that of practice nor that measured. Without `weights`
    times alone are fitted.
    """
    from reverie.fitting import fit
    from reverie.tuning import Count, Tuning, grid_of, judge, sampler_of, standard_grids

    schedule = STARTS[problem.start]
    sampler, standard = told(problem, ours(), reverie.Angle())
    assert isinstance(standard, reverie.Angle)
    assert problem.practice is not None
    f, practice, cond = problem.make(schedule), problem.practice, problem.practice_cond
    held = torch.randn(practice.shape, generator=torch.Generator().manual_seed(HELD), dtype=DOUBLE)
    x = schedule.at(torch.tensor(1.0, dtype=DOUBLE), like=practice).sigma * practice
    steps = sorted({most_steps(sampler, n) for n in budgets if 5 <= n <= 50})
    found = fit(f, sampler, steps, x, cond, budget_s=seconds)
    if not weights:
        found = replace(found, grids=tuple(replace(each, weighed=()) for each in found.grids))
    judged = judge(
        f,
        sampler,
        found,
        lambda t: schedule.at(t, like=held).sigma * held,
        cond,
        standards=standard_grids(standard.std or 1.0, 1.0),
    )
    counts = tuple(Count(evaluations(sampler, j.steps), j.steps, j.times, weights=j.weights) for j in judged)
    tuning = Tuning(problem.name, sampler, 1.0, False, schedule, counts)
    grid = grid_of(tuning, steps[0])

    def run(ask: Asked, noise: Tensor, start: str, budget: int) -> Sampled:
        n = most_steps(sampler, budget)
        return followed(ask, noise, start, sampler_of(tuning, n), grid.with_steps(n))

    return Setting("reverie", FITTED, run, (problem.start,), False, True), grid


def converging() -> list[tuple[Setting, int | None]]:
    """Every deterministic sampler there is, on smooth grids, with the order it declares."""
    from benchmarks.samplers.timing import deterministic

    grids = {"angle": registered(Grid)["angle"](), "Karras": reverie.Karras()}
    return [
        (setting(f"{name}, {where}", sampler, grid, default=True), sampler.order)
        for name, sampler in deterministic().items()
        for where, grid in grids.items()
        if not name.startswith("adaptive")
    ]
