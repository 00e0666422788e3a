"""What a tuned grid does where nothing was fitted: numbers of steps in between and beyond, and another guidance.

Exact Gaussian mixtures; `Adams`, fitted on 128 points. Every figure is the error of the generic grid `Angle`
over that of the tuned one, on 256 other points: above 1 the tuned grid is better. Prints tables and writes
them, with date, commit and machine.

    python benchmarks/tuned_grids.py                # results/tuned_grids.md, about ten minutes
    python benchmarks/tuned_grids.py --seconds 5    # of fitting, for each problem
"""

import argparse
import math
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

import reverie
from reverie.fitting import error, fit, reference, times_of
from reverie.grids import Angle, Tuned
from reverie.samplers.adams import Adams
from reverie.tensors import host

FITTED = (5, 6, 8, 10, 15, 20, 30)
ASKED = {"fitted": FITTED, "between": (7, 9, 12, 17, 25), "40": (40,), "60": (60,), "100": (100,), "200": (200,)}
GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0)
PROBLEMS = [(schedule, d, seed) for schedule in (reverie.Flow(), reverie.VE()) for d, seed in (
    (2, 2), (4, 3), (16, 16), (16, 7), (64, 64)
)]  # fmt: skip
"""Schedule, dimensions, seed. From t = 1, variance-preserving processes differ from `Flow` in nothing here."""
DOUBLE = torch.float64


def mixture(schedule: reverie.Schedule, d: int, seed: int, k: int = 6) -> reverie.GaussianMixture:
    """Of k components in d dimensions, each half of them a class."""
    random = torch.Generator().manual_seed(seed)
    means, stds = torch.randn(k, d, generator=random, dtype=DOUBLE), 0.1 + 0.4 * torch.rand(k, generator=random)
    weights = 0.2 + torch.rand(k, generator=random)
    return reverie.GaussianMixture(schedule, means, stds.double(), weights, labels=torch.arange(k) % 2)


def fitted(f: reverie.Denoises, counts: tuple[int, ...], d: int, seconds: float, cond: reverie.Cond | None) -> Tuned:
    """The grid for these counts."""
    z = torch.randn(128, d, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    x = f.schedule.at(host(1.0), z).sigma * z
    found = fit(f, Adams(), counts, x, cond, budget_s=seconds)
    times = (times_of(f.schedule, torch.tensor(each.angles, dtype=DOUBLE)) for each in found.grids)
    return Tuned(counts[0], tuple((1.0, *t[1:].tolist()) for t in times))


def ratios(f: reverie.Denoises, grid: Tuned, counts: Sequence[int], d: int, cond: reverie.Cond | None = None) -> list:
    """For each count, of the generic grid's error to the tuned one's: root mean square, and median."""
    z = torch.randn(256, d, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    x = f.schedule.at(host(1.0), z).sigma * z
    truth, found = reference(f, x, cond, steps=600), []
    for n in counts:
        grids = (Angle(n), grid.with_steps(n))
        generic, tuned = (error(reverie.generate(f, Adams(), g(f.schedule), x, cond), truth) for g in grids)
        found.append((generic.rms / tuned.rms, generic.median / tuned.median))
    return found


def told(found: Sequence[tuple[float, float]]) -> str:
    """Geometric means of both ratios, and the share of them below 1."""
    rms, median = (math.exp(sum(math.log(pair[i]) for pair in found) / len(found)) for i in (0, 1))
    return f"{rms:.2f} | {median:.2f} | {sum(v < 1 for pair in found for v in pair) / (2 * len(found)):.0%}"


def tables(seconds: float) -> str:
    """Both, as Markdown."""
    by_name: dict[str, list] = {name: [] for name in ASKED}
    for schedule, d, seed in PROBLEMS:
        f = mixture(schedule, d, seed)
        grid = fitted(f, FITTED, d, seconds, None)
        for name, counts in ASKED.items():
            by_name[name] += ratios(f, grid, counts, d)
        print(type(schedule).__name__, d, *(f"{name}: {told(v)};" for name, v in by_name.items()), flush=True)
    lines = ["| steps | root mean square | median | worse than generic |", "|---|---|---|---|"]
    lines += [f"| {name} | {told(found)} |" for name, found in by_name.items()]
    lines += ["", "| guidance, used / fitted | root mean square | median | worse than generic |", "|---|---|---|---|"]
    by_factor: dict[float, list] = {}
    for d, seed in ((2, 2), (4, 3), (16, 7)):
        base = mixture(reverie.Flow(), d, seed)
        for at in GUIDANCE:
            cond = [reverie.Cond(label=torch.arange(n) % 2) for n in (128, 256)]
            grid = fitted(reverie.ClassifierFree(base, at), (10,), d, seconds / 5, cond[0])
            for w in GUIDANCE:
                found = ratios(reverie.ClassifierFree(base, w), grid, (10,), d, cond[1])
                by_factor.setdefault(round(w / at, 2), []).extend(found)
    lines += [f"| {factor:g} | {told(by_factor[factor])} |" for factor in sorted(by_factor)]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=25.0, help="of fitting, for each problem")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "tuned_grids.md")
    given = parser.parse_args()
    found = tables(given.seconds)
    git = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    made = f"{datetime.now(UTC):%Y-%m-%d}, commit {git.stdout.strip() or '?'}, {platform.machine()}"
    text = f"# Tuned grids where nothing was fitted\n\n{made}, torch {torch.__version__}\n\n{found}\n"
    given.out.write_text(text, encoding="utf-8")
    print(found)


if __name__ == "__main__":
    main()
