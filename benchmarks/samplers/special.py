"""What docs/choosing.md says of noise and of clipping: samplers by their law, and along clipped paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

import reverie
from benchmarks.samplers.ours import most_steps, sampler_of
from benchmarks.samplers.problems import DOUBLE
from reverie.denoiser import Denoises
from reverie.samplers import Sampler

SCHEDULES = {"vp_linear": reverie.LinearVP(), "edm": reverie.VE(0.002, 80.0), "flow": reverie.Flow()}
N, DIRECTIONS = 20_000, 8
BUDGETS = (10, 20, 50, 100)
NOISY: dict[str, tuple[str, dict[str, Any]]] = {
    "`dpmpp_2m_sde`": ("dpmpp_2m_sde", {}),
    "`dpmpp_3m_sde`": ("dpmpp_2m_sde", {"nodes": 3}),
    "`sa_solver`": ("sa_solver", {}),
    "`euler_maruyama`": ("euler_maruyama", {}),
    "`reverse_diffusion`": ("reverse_diffusion", {}),
    "`ancestral`": ("ancestral", {}),
    "`ddim`, `eta=1`": ("ddim", {"eta": 1.0}),
    "`heun`, `churn=0.2`": ("heun", {"churn": 0.2}),
    "`restart`": ("restart", {}),
    "`adams`, without noise": ("adams", {}),
}

CLIPPED_N = 256
CLIPPED_BUDGETS = (5, 6, 8, 10, 15, 20, 30, 50)
CLIPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "`adams`, `density=false`": ("adams", {"density": False}),
    "`adams`, `density=false`, of order 3": ("adams", {"order": 3, "density": False}),
    "`adams`": ("adams", {}),
    "`dpmpp_2m`": ("dpmpp", {"order": 2}),
    "`unipc`": ("unipc", {}),
    "`deis`": ("deis", {}),
    "`midpoint`": ("midpoint", {}),
    "`ddim`": ("ddim", {}),
}
REFERENCE = 2000
"""Steps of the midpoint rule, along a clipped path."""


def two_modes(schedule: reverie.Schedule) -> reverie.GaussianMixture:
    """Two modes that do not touch, of unlike weights and shapes."""
    means = torch.tensor([[1.5, 0.5], [-1.5, -0.5]], dtype=DOUBLE)
    stds = torch.tensor([[0.6, 0.3], [0.3, 0.6]], dtype=DOUBLE)
    return reverie.GaussianMixture(schedule, means, stds, torch.tensor([0.65, 0.35], dtype=DOUBLE))


def sliced(x: Tensor, y: Tensor) -> float:
    """The mean distance of the k-th smallest of x (N, 2) from the k-th smallest of y, over lines through 0."""
    angles = torch.arange(DIRECTIONS, dtype=DOUBLE) * math.pi / DIRECTIONS
    lines = torch.stack([angles.cos(), angles.sin()])
    return float(((x @ lines).sort(0).values - (y @ lines).sort(0).values).abs().mean())


def law(sampler: Sampler, schedule: reverie.Schedule, budget: int, seed: int) -> float:
    """The sliced Wasserstein distance of samples from draws of the mixture."""
    f = two_modes(schedule)
    draw = torch.Generator().manual_seed(seed)
    truth = f.sample(N, draw)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=draw, dtype=like.dtype)

    times = reverie.Angle(most_steps(sampler, budget), start=0.999)(schedule)
    x = reverie.prior(schedule, times[0], torch.empty(N, 2, dtype=DOUBLE), noise)
    return sliced(reverie.generate(f, sampler, times, x, noise=noise), truth)


def true_distance(seed: int) -> float:
    """The same between two sets of true draws."""
    f, draw = two_modes(reverie.Flow()), torch.Generator().manual_seed(seed)
    return sliced(f.sample(N, draw), f.sample(N, draw))


def kinked(dimension: int, schedule: reverie.Schedule, seed: int) -> Denoises:
    """A mixture about corners of the cube that its x0 is clipped to."""
    draw = torch.Generator().manual_seed(seed)
    corners = torch.randn(6, dimension, generator=draw, dtype=DOUBLE).sign()
    stds, weights = torch.full((6,), 0.3, dtype=DOUBLE), torch.full((6,), 1 / 6, dtype=DOUBLE)
    return reverie.Clipped(reverie.GaussianMixture(schedule, corners, stds, weights))


def along(f: Denoises, sampler: Sampler, steps: int, x: Tensor) -> Tensor:
    """Where the sampler ends from x at t = 1."""
    return reverie.generate(f, sampler, reverie.Angle(steps)(f.schedule), x)


def clipped_errors(seed: int) -> dict[str, list[float]]:
    """The median error by evaluations, the median over problems."""
    errors: dict[str, list[list[float]]] = {name: [] for name in CLIPPED}
    for dimension in (2, 8, 64):
        for schedule in SCHEDULES.values():
            f = kinked(dimension, schedule, seed)
            like = torch.empty(CLIPPED_N, dimension, dtype=DOUBLE)
            x = reverie.prior(schedule, 1.0, like, reverie.streams([(seed, i) for i in range(CLIPPED_N)]))
            exact = along(f, reverie.Midpoint(), REFERENCE, x)
            for name, (kind, options) in CLIPPED.items():
                sampler = sampler_of(kind, **options)
                ends = [along(f, sampler, most_steps(sampler, n), x) for n in CLIPPED_BUDGETS]
                errors[name].append([float((e - exact).square().mean(1).sqrt().median()) for e in ends])
    return {name: [median(column) for column in zip(*rows, strict=True)] for name, rows in errors.items()}


def noisy_distances(seed: int) -> dict[str, list[float | None]]:
    """The distance by evaluations, the median over schedules; None where they are too few."""
    found: dict[str, list[float | None]] = {
        "true draws": [median(true_distance(seed + i) for i in range(9))] * len(BUDGETS)
    }
    for name, (kind, options) in NOISY.items():
        found[name] = [_law_or_none(sampler_of(kind, **options), n, seed) for n in BUDGETS]
    return found


def _law_or_none(sampler: Sampler, budget: int, seed: int) -> float | None:
    try:
        most_steps(sampler, budget)
    except ValueError:
        return None
    return median(law(sampler, schedule, budget, seed) for schedule in SCHEDULES.values())


def measure(seed: int) -> dict[str, Any]:
    """Both, for JSON."""

    def rounded(rows: dict[str, Sequence[float | None]]) -> dict[str, list[float | None]]:
        return {k: [None if e is None else float(f"{e:.4g}") for e in row] for k, row in rows.items()}

    return {"law": rounded(dict(noisy_distances(seed))), "clipped": rounded(dict(clipped_errors(seed)))}
