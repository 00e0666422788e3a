"""The observed order of every deterministic sampler on every schedule, against a known solution.

The data are a Gaussian with a mean and standard deviations of its own in each of three dimensions, so
the denoiser is exact and so is the curve that the flow ODE takes x along (`Gaussian.solution`). From a
grid's first time to t = 0 in N steps, e(N) is the largest error at t = 0; the order between N and 2 N is
log2(e(N) / e(2 N)). Samplers that work to a tolerance are left out. Prints a table and writes it, with date,
commit and machine.

    python benchmarks/order.py                                 # results/order.md, about two minutes
    python benchmarks/order.py --steps 16 --out order.md      # N = 16, 32, 64, 128
"""

import argparse
import itertools
import math
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

import reverie
from reverie.config import registered
from reverie.files import write_text

HERE = Path(__file__).parent
DOUBLE = torch.float64
MEAN, STD = torch.tensor([0.7, -0.4, 1.1], dtype=DOUBLE), torch.tensor([0.8, 0.5, 1.2], dtype=DOUBLE)
START = torch.tensor([0.3, -1.1, 0.8], dtype=DOUBLE)
"""Where x starts, in standard deviations from its mean."""


def quadratic(schedule: reverie.Schedule, steps: int) -> torch.Tensor:
    """t_i = (1 - i / N)^2: where sigma ~ sqrt(t), equal steps of sigma near the data."""
    return torch.linspace(1, 0, steps + 1, dtype=DOUBLE) ** 2


GRIDS = {
    "uniform in t": lambda schedule, steps: reverie.Uniform(steps)(schedule),
    "quadratic in t": quadratic,
    "Karras": lambda schedule, steps: reverie.Karras(steps)(schedule),
    "uniform in log-SNR": lambda schedule, steps: reverie.LogSNR(steps)(schedule),
}


def error(sampler: reverie.Sampler, schedule: reverie.Schedule, times: torch.Tensor) -> float:
    """The largest error at t = 0 of one trajectory from the first of `times`."""
    f = reverie.Gaussian(schedule, MEAN, STD)
    level = schedule.at(times[0], like=MEAN)
    x = (level.alpha * MEAN + ((level.alpha * STD) ** 2 + level.sigma**2).sqrt() * START)[None]
    found = reverie.generate(f, sampler, times, x)
    return float((found - f.solution(x, times[0], 0.0)).abs().max())


def rows(first: int) -> list[tuple[str, ...]]:
    """Sampler, schedule, grid, the error at 8 N steps, and the orders N to 2 N, 2 N to 4 N, 4 N to 8 N: N = `first`."""
    made = {kind: cls() for kind, cls in registered(reverie.Sampler).items()}
    found = []
    for sampler in (s for s in made.values() if s.deterministic and not s.adaptive):
        for schedule in (cls() for cls in registered(reverie.Schedule).values()):
            for grid, times in GRIDS.items():
                e = [error(sampler, schedule, times(schedule, first * 2**i)) for i in range(4)]
                orders = [f"{math.log2(a / b):.2f}" for a, b in itertools.pairwise(e)]
                found.append((sampler.kind, schedule.kind, grid, f"{e[3]:.1e}", *orders))
    return found


def provenance() -> str:
    """Date, commit and machine."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()

    changed = " with changes to the package" if git("status", "--porcelain", "--", "../reverie") else ""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    chip = names[0].partition(": ")[2] if names else platform.processor()
    day = datetime.now(UTC).date().isoformat()
    commit = git("rev-parse", "--short", "HEAD") or "unknown"
    return f"{day}, commit {commit}{changed}, {chip}, torch {torch.__version__}, float64."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=80, help="N, the fewest of the four numbers of steps")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "order.md")
    told = parser.parse_args()
    n = told.steps
    head = ("sampler", "schedule", "grid", f"error at {8 * n}", *(f"order {n * k} to {2 * n * k}" for k in (1, 2, 4)))
    table = ["| " + " | ".join(row) + " |" for row in (head, ("---",) * 3 + ("---:",) * 4, *rows(n))]
    lines = ["# Observed order of the deterministic samplers", "", f"`benchmarks/order.py`: {provenance()}", "", *table]
    write_text(told.out, "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
