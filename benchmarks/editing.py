"""How near methods for inverse problems come to the posterior, where it is known: results/editing.json and .md.

Gaussian data of which some numbers, or sums of them, are measured: the posterior is Gaussian, and so is, but for DPS,
what each method makes, with a mean and a covariance that are read off without chance (`law`). The mean's error is
|a - m| / sqrt(tr C0), C0 the covariance of the data, and the covariance's |A - C| / |C| (Frobenius). DPS is measured on
4096 samples; a line gives the same errors of as many exact ones.

The 8 numbers of the data have a variance of 0.5 and are independent, or correlated as neighbouring pixels are (a square
exponential of length 1.5); the schedule is `LinearVP`. RePaint's jumps are 5 steps long. Last, the error of inversion.

    python benchmarks/editing.py                   # about a minute on one core; also the tables of docs/editing.md
    python benchmarks/editing.py --steps 20 --out /tmp/editing
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.publishing import about, filled, lines, provenance
from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.editing import (
    DDRM,
    DPS,
    MeasuredPath,
    Measurement,
    MomentMatched,
    Operator,
    PiGDM,
    repaint,
)
from reverie.editing.operators import Mask, Matrix
from reverie.files import write_text
from reverie.grids import Uniform
from reverie.prediction import Prediction
from reverie.samplers import DDIM, Ancestral, Heun, Sampler
from reverie.sampling import generate, invert, prior
from reverie.schedules import LinearVP, Schedule
from reverie.tensors import Noise, generator, streams

HERE = Path(__file__).parent
RESULTS, DOC = HERE / "results" / "editing", HERE.parent / "docs" / "editing.md"
DOUBLE = torch.float64
SAMPLES = 4096


class Correlated:
    """The exact denoiser of data (d,) from N(mean, C), which counts how often it is asked."""

    def __init__(self, schedule: Schedule, mean: Tensor, cov: Tensor) -> None:
        self.schedule, self.mean, self.cov, self.calls = schedule, mean, cov, 0
        self._values, self._vectors = torch.linalg.eigh(cov)

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        self.calls += 1
        level = self.schedule.at(t, like=x)
        variance = level.alpha**2 * self._values + level.sigma**2
        z = (x - level.alpha * self.mean) @ self._vectors
        x0 = self.mean + level.alpha * (z * self._values / variance) @ self._vectors.T
        return Prediction(x, level, x0, level.sigma * (z / variance) @ self._vectors.T)


def posterior(f: Correlated, h: Tensor, y: Tensor, noise: float) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of x0 given y (m,) = h x0 + noise z."""
    gain = f.cov @ h.T @ torch.linalg.pinv(h @ f.cov @ h.T + noise**2 * torch.eye(len(h), dtype=h.dtype))
    return f.mean + gain @ (y - h @ f.mean), f.cov - gain @ h @ f.cov


def dense(operator: Operator, d: int) -> Tensor:
    """H (m, d) of an operator on (d,)."""
    return operator.forward(torch.eye(d, dtype=DOUBLE)).T


class _Impulses:
    """The k-th number drawn is 1 in row k + 1 and 0 elsewhere, and all are 0 in the first."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, like: Tensor) -> Tensor:
        z, n = torch.zeros_like(like), like[0].numel()
        for i in range(min(n, len(like) - 1 - self.count)):
            z[1 + self.count + i].view(-1)[i] = 1
        self.count += n
        return z


def law(f: Denoises, sampler: Sampler, times: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of what is generated of (d,), for a method that is affine in all it draws."""
    draws = _Impulses()
    generate(f, sampler, times, prior(f.schedule, times[0], torch.zeros(1, d, dtype=DOUBLE), draws), noise=draws)
    like, noise = torch.zeros(1 + draws.count, d, dtype=DOUBLE), _Impulses()
    out = generate(f, sampler, times, prior(f.schedule, times[0], like, noise), noise=noise)
    change = out[1:] - out[0]
    return out[0], change.T @ change


def drawn(seed: int) -> Noise:
    """Noise of one generator for a whole batch: many samples that nobody will ask for one by one."""
    source = generator(seed)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=source)


def moments(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Their mean (d,) and covariance (d, d)."""
    return samples.mean(0), samples.T.cov()


def errors(found: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor], cov: Tensor) -> tuple[float, float]:
    """Of the mean, in standard deviations of the data, and of the covariance, as a share."""
    (a, b), (m, c) = found, truth
    return float((a - m).norm() / cov.trace().sqrt()), float((b - c).norm() / c.norm())


@dataclass(frozen=True)
class Problem:
    """Data and what is measured of them."""

    name: str
    cov: Tensor
    operator: Operator
    noise: float


def problems(d: int = 8) -> list[Problem]:
    """Two kinds of data, with and without noise."""
    place = torch.arange(d, dtype=DOUBLE)
    smooth = 0.5 * torch.exp(-0.5 * ((place[:, None] - place) / 1.5) ** 2) + 0.02 * torch.eye(d, dtype=DOUBLE)
    alone = 0.5 * torch.eye(d, dtype=DOUBLE)
    known = Mask(torch.tensor([1.0, 1, 1, 0, 0, 0, 1, 1])[:d])
    means = Matrix(torch.kron(torch.eye(d // 2, dtype=DOUBLE), torch.full((1, 2), 0.5, dtype=DOUBLE)))
    return [
        Problem("independent, some known", alone, known, 0.0),
        Problem("independent, means of pairs, noise 0.3", alone, means, 0.3),
        Problem("correlated, some known", smooth, known, 0.0),
        Problem("correlated, means of pairs, noise 0.3", smooth, means, 0.3),
    ]


Made = Callable[[Correlated, Measurement], tuple[Denoises, Sampler]]


def methods(masked: bool) -> Iterator[tuple[str, float, Made]]:
    """Name, how many times the steps of the others, and the denoiser and the sampler."""
    yield "PiGDM, var 0.5, Heun", 1, lambda f, m: (PiGDM(f, m, 0.5), Heun())
    yield "MomentMatched (8), Heun", 1, lambda f, m: (MomentMatched(f, m, 8), Heun())
    for eta, more in ((0.0, 1), (0.0, 4), (0.85, 0.2), (0.85, 1)):
        yield f"DDRM, eta {eta:g}", more, lambda f, m, eta=eta: (f, DDRM(m, eta))
    for more in (1, 4):
        yield "MeasuredPath", more, lambda f, m: (f, MeasuredPath(m))
    if masked:
        for solver, times in ((s, n) for s in (DDIM(1.0), Heun()) for n in (1, 2, 4, 8, 16)):
            name = f"RePaint, {times} times" if times > 1 else "replacement"

            def made(
                f: Correlated, m: Measurement, solver: Sampler = solver, n: int = times
            ) -> tuple[Denoises, Sampler]:
                return f, repaint(m.y, m.operator.known, solver, 5, n)

            yield f"{name}, {'DDIM(1)' if solver.kind == 'ddim' else 'Heun'}", 1, made


def measured(problem: Problem, steps: int, seed: int) -> Iterator[dict[str, object]]:
    """A row for each method."""
    d = len(problem.cov)
    f = Correlated(LinearVP(), torch.linspace(-0.5, 0.5, d, dtype=DOUBLE), problem.cov)
    h = dense(problem.operator, d)
    root = torch.linalg.cholesky(problem.cov)
    x0 = f.mean + root @ streams([(seed, 0)])(torch.empty(1, d, dtype=DOUBLE))[0]
    y = h @ x0 + problem.noise * streams([(seed, 1)])(torch.empty(1, len(h), dtype=DOUBLE))[0]
    truth = posterior(f, h, y, problem.noise)
    measurement = Measurement(problem.operator, y[None], problem.noise)

    def row(name: str, found: tuple[Tensor, Tensor], evaluations: int | None, grid: int | None) -> dict[str, object]:
        mean, cov = errors(found, truth, problem.cov)
        return {
            "problem": problem.name, "method": name, "steps": grid, "evaluations": evaluations,
            "mean": mean, "covariance": cov,
        }  # fmt: skip

    for name, more, made in methods(isinstance(problem.operator, Mask)):
        grid = Uniform(int(more * steps))
        times = grid(f.schedule)
        found = law(*made(f, measurement), times, d)
        f.calls = 0
        generate(*made(f, measurement), times, torch.zeros(1, d, dtype=DOUBLE))
        yield row(name, found, f.calls, grid.steps)
    for zeta, n in ((0.3, steps), (1.0, steps), (0.3, 10 * steps), (1.0, 10 * steps)):
        noise = drawn(seed)
        x = prior(f.schedule, 1.0, torch.empty(SAMPLES, d, dtype=DOUBLE), noise)
        f.calls = 0
        grid = Uniform(n)(f.schedule)
        found = moments(generate(f, DPS(measurement, Ancestral(), zeta), grid, x, noise=noise))
        yield row(f"DPS, zeta {zeta:g}", found, f.calls, n)
    values, vectors = torch.linalg.eigh(truth[1])
    z = drawn(seed + 1)(torch.empty(SAMPLES, d, dtype=DOUBLE))
    yield row("exact samples", moments(truth[0] + z * values.clamp_min(0).sqrt() @ vectors.T), None, None)


def inversions(steps: Sequence[int], d: int = 8) -> Iterator[dict[str, object]]:
    """How far images are from themselves, to the noise and back: the root mean square over the data's deviation."""
    cov = problems(d)[2].cov
    f = Correlated(LinearVP(), torch.linspace(-0.5, 0.5, d, dtype=DOUBLE), cov)
    x0 = f.mean + drawn(0)(torch.empty(256, d, dtype=DOUBLE)) @ torch.linalg.cholesky(cov).T
    for sampler in (DDIM(), Heun()):
        for n in steps:
            times = Uniform(n)(f.schedule)
            back = generate(f, sampler, times, invert(f, sampler, times, x0))
            off = float((back - x0).square().mean().sqrt() / cov.diagonal().mean().sqrt())
            yield {"sampler": sampler.kind, "steps": n, "error": off}


def tables(found: dict[str, Any]) -> dict[str, str]:
    """The tables of docs/editing.md: a column for each problem, errors of mean and covariance; and the inversions."""
    names = list(dict.fromkeys(row["problem"] for row in found["rows"]))
    text = [f"| method | steps | evaluations | {' | '.join(names)} |", "|---|---:|---:|" + "---:|" * len(names)]
    for key in dict.fromkeys((row["method"], row["steps"], row["evaluations"]) for row in found["rows"]):
        cells = []
        for name in names:
            of = [r for r in found["rows"] if (r["method"], r["steps"], r["evaluations"], r["problem"]) == (*key, name)]
            cells.append(f"{of[0]['mean']:.3f}, {of[0]['covariance']:.3f}" if of else "")
        text.append("| " + " | ".join(["" if value is None else str(value) for value in key] + cells) + " |")
    return {"posterior": "\n".join(text), "inversion": "\n".join(_inversions(found))}


def _inversions(found: dict[str, Any]) -> list[str]:
    text = ["| sampler | steps | error |", "|---|---:|---:|"]
    return text + [f"| {row['sampler']} | {row['steps']} | {row['error']:.1e} |" for row in found["inversions"]]


def page(found: dict[str, Any]) -> str:
    """The tables in Markdown."""
    rows = found["rows"]
    text = ["# Methods for inverse problems against the posterior", "", f"`benchmarks/editing.py`: {about(found)}"]
    for name in dict.fromkeys(row["problem"] for row in rows):
        text += ["", f"## {name[0].upper()}{name[1:]}", ""]
        text += ["| method | steps | evaluations | error of mean | error of covariance |", "|---|---:|---:|---:|---:|"]
        for row in (row for row in rows if row["problem"] == name):
            counts = " | ".join("" if row[key] is None else str(row[key]) for key in ("steps", "evaluations"))
            text.append(f"| {row['method']} | {counts} | {row['mean']:.3f} | {row['covariance']:.3f} |")
    text += ["", "## Inversion: to the noise and back", "", *_inversions(found)]
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, help="without a suffix")
    told = parser.parse_args()
    rows = [row for problem in problems() for row in measured(problem, told.steps, told.seed)]
    found = {"about": provenance(["torch", "numpy"], told.seed), "rows": rows}
    found["inversions"] = list(inversions((50, 100, 200, 1000)))
    write_text(told.out.with_suffix(".json"), lines(json.loads(json.dumps(found))))
    write_text(told.out.with_suffix(".md"), page(found))
    if told.out == RESULTS:
        write_text(DOC, filled(DOC.read_text(), tables(found)))
    print(page(found))


if __name__ == "__main__":
    main()
