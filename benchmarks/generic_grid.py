"""The two numbers of the generic grid, `reverie.grids.Angle`, from random mixtures.

    python -m benchmarks.generic_grid [--seed 0] [--problems 32]

For each (first, bend): the mean over random Gaussian mixtures (2 to 192 dimensions, modes from touching to far
apart, three schedules) of the logarithm of the error of `Adams`, half of it the typical error and half the root mean
square, at 5 to 32 steps. Lower is better; the minimum is where the shipped numbers come from.
"""

from __future__ import annotations

import argparse
import math

import torch

from reverie.exact import GaussianMixture
from reverie.fitting import reference, times_of
from reverie.samplers import Adams
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, LinearVP

COUNTS = (5, 8, 12, 20, 32)
FIRST, BEND = (0.2, 0.4, 0.6), (-0.3, -0.2, -0.15, -0.1, 0.0)
SCHEDULES = (VE(), LinearVP(), Cosine())
DOUBLE = torch.float64


def problem(seed: int, n: int = 48) -> tuple[GaussianMixture, torch.Tensor, torch.Tensor]:
    """A mixture of unit variance, noise to start from (n, d), and where it leads."""
    g = torch.Generator().manual_seed(seed)

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=g))

    d = (2, 2, 3, 4, 8, 16, 64, 64, 192)[int(between(0, 9))]
    k = int(2 + between(0, 1) ** 2 * (14 if d < 8 else 30))
    means = torch.randn(k, d, generator=g, dtype=DOUBLE)
    means -= means.mean(0)
    stds = torch.exp(0.3 * torch.randn(k, generator=g, dtype=DOUBLE)) / math.exp(between(math.log(0.7), math.log(12)))
    scale = float(((stds**2).mean() + (means**2).mean()).sqrt())
    schedule = SCHEDULES[seed % len(SCHEDULES)]
    f = GaussianMixture(schedule, means / scale, stds / scale)
    x = schedule.sigma(torch.ones((), dtype=DOUBLE)) * torch.randn(n, d, generator=g, dtype=DOUBLE)
    return f, x, reference(f, x, steps=400)


def angles(steps: int, first: float, bend: float, start: float) -> torch.Tensor:
    """Those of `Angle` for these two numbers."""
    u = (torch.arange(steps + 1, dtype=DOUBLE) - first).clamp_min(0) / (steps - first)
    return start * (1 - u) * (1 + bend * u)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--problems", type=int, default=32)
    options = parser.parse_args()
    problems = [problem(1000 * options.seed + i) for i in range(options.problems)]
    print("steps  first  " + "  ".join(f"bend {b:5.2f}" for b in BEND))
    for steps in COUNTS:
        for first in FIRST:
            row = []
            for bend in BEND:
                total = 0.0
                for f, x, exact in problems:
                    one = torch.ones((), dtype=DOUBLE)
                    start = float(torch.atan2(f.schedule.sigma(one), f.schedule.alpha(one)))
                    times = times_of(f.schedule, angles(steps, first, bend, start))
                    times[0] = 1.0
                    e = ((generate(f, Adams(), times, x) - exact) ** 2).mean(1) + 1e-30
                    total += float((e + e.median() / 10).log().mean() / 4 + e.mean().log() / 4)
                row.append(total / len(problems))
            print(f"{steps:5d}  {first:5.1f}  " + "  ".join(f"{value:10.3f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
