"""What is sampled: exact Gaussian mixtures from four starts, class-guided ones, and trained networks.

Letters in shapes: B batch, K components, D dimensions, ... the shape of one example.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import reverie
from reverie.denoiser import Denoises

DOUBLE = torch.float64

STARTS: dict[str, reverie.Schedule] = {
    "vp_linear": reverie.LinearVP(),
    "vp_cosine": reverie.Cosine(),
    "edm": reverie.VE(0.002, 80.0),
    "flow": reverie.Flow(),
}
"""The processes; each begins at its own t = 1."""


@dataclass(frozen=True)
class Problem:
    """A denoiser, a condition and a noise to begin with.

    `make(schedule)` is the same denoiser under another process: the law of x / alpha given sigma / alpha
    is one and the same, so every solver is asked to follow the same curve.
    """

    name: str
    start: str
    """A key of `STARTS`: where the curve begins and what grids are laid on."""
    make: Callable[[reverie.Schedule], Denoises]
    noise: Tensor
    """(B, ...); x at the start is sigma times this."""
    cond: reverie.Cond | None = None
    precise: Callable[[reverie.Schedule], Denoises] | None = None
    """The denoiser that the reference is computed with, where `make` works in less than float64."""
    tolerance: float = 1e-10
    """Of the reference, relative."""
    network: bool = False
    spread: float = 1.0
    """About the standard deviation of the data a coordinate."""
    practice: Tensor | None = None
    """(B', ...) other noise, for grids to be fitted on."""
    practice_cond: reverie.Cond | None = None
    cache: Path | None = None
    """For a trained network, a path that names model, seed and guidance: its references are kept beside it."""
    spent: list[int] = field(default_factory=list, compare=False)
    """Evaluations of each solution for reference."""
    doubt: list[float] = field(default_factory=list, compare=False)
    """How far the reference may be off, once known."""
    references: dict[float, Tensor] = field(default_factory=dict, compare=False)

    @property
    def schedule(self) -> reverie.Schedule:
        """The process that our own samplers run on."""
        return STARTS[self.start]


@dataclass(frozen=True)
class Mixture:
    """How a random mixture is drawn: `k` components in `d` dimensions, of standard deviation about `width`.

    Means are normal, in `rank` dimensions if that is fewer than `d`; components differ in weight and
    width, the widths by a factor up to `uneven` either way, per component or (`anisotropic`) per
    coordinate. All is scaled to variance 1 a coordinate, on average over coordinates.
    """

    name: str
    d: int
    k: int
    width: float
    rank: int | None = None
    uneven: float = 1.5
    anisotropic: bool = False
    classes: int = 0
    guidance: float = 1.0
    n: int = 256

    def draw(self, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Means (K, D), standard deviations (K, D), weights (K,) and labels (K,) or None."""
        rng = np.random.default_rng([seed, self.d, self.k, round(1000 * self.width), self.rank or 0])
        if self.rank is None:
            means = rng.standard_normal((self.k, self.d))
        else:
            basis = np.linalg.qr(rng.standard_normal((self.d, self.rank)))[0]
            means = rng.standard_normal((self.k, self.rank)) @ basis.T
        weights = rng.dirichlet(np.full(self.k, 4.0))
        shape = (self.k, self.d) if self.anisotropic else (self.k, 1)
        stds = self.width * self.uneven ** rng.uniform(-1, 1, shape) * np.ones((self.k, self.d))
        means -= weights @ means
        between = float((weights @ means**2).mean())
        within = float((weights @ stds**2).mean())
        assert within < 1, "a width below 1 leaves room for means"
        means *= np.sqrt((1 - within) / between)
        labels = torch.arange(self.k) % self.classes if self.classes else None
        return (*(torch.as_tensor(a, dtype=DOUBLE) for a in (means, stds, weights)), labels)


MIXTURES = (
    Mixture("d2-wide", 2, 6, 0.3),
    Mixture("d2-narrow", 2, 12, 0.06),
    Mixture("d8", 8, 10, 0.2),
    Mixture("d64", 64, 10, 0.3, n=192),
    Mixture("d64-low-rank", 64, 12, 0.15, rank=6, anisotropic=True, uneven=3.0, n=192),
    Mixture("d256", 256, 8, 0.5, n=96),
)
GUIDED = (
    Mixture("d8-guided", 8, 12, 0.25, classes=4, guidance=3.0),
    Mixture("d64-guided", 64, 12, 0.3, classes=4, guidance=2.0, n=128),
)


def mixture(kind: Mixture, start: str, seed: int) -> Problem:
    """The problem of one random mixture from one start."""
    means, stds, weights, labels = kind.draw(seed)

    def make(schedule: reverie.Schedule) -> Denoises:
        f: Denoises = reverie.GaussianMixture(schedule, means, stds, weights, labels)
        return f if kind.guidance == 1 else reverie.ClassifierFree(f, kind.guidance)

    noise, other = (
        torch.as_tensor(np.random.default_rng([seed, i]).standard_normal((kind.n, kind.d)), dtype=DOUBLE)
        for i in (1, 2)
    )
    cond = reverie.Cond(label=torch.arange(kind.n) % kind.classes) if kind.classes else None
    return Problem(kind.name, start, make, noise, cond, practice=other, practice_cond=cond)


# ------------------------------------------------------------------------------- trained networks


@dataclass(frozen=True)
class Network:
    """A trained run, sampled with classes in turn and guided, or without."""

    name: str
    recipe: tuple[str, ...]
    """What `reverie train` is told, where the run is missing."""
    n: int


NETWORKS = (
    Network("digits", ("digits", "train.steps=1500"), 32),
    Network(
        "fashion",
        (
            "fashion",
            "net.width=16",
            "train.steps=4000",
            "train.batch=48",
            "train.validate_every=2000",
            "train.save_every=500",
        ),
        12,
    ),
)


def trained(network: Network, runs: Path, seconds: float) -> Path:
    """The folder of the run, trained now if it is not there, for `seconds` at most."""
    import time

    from reverie.cli.compose import composed
    from reverie.runs import begin

    out = runs / network.name
    if not (out / "model.safetensors").exists():
        print(f"training {out} for at most {seconds:.0f} s", flush=True)
        recipe, _ = composed(list(network.recipe))
        examples = recipe.data.load()
        run = begin(out, recipe, examples)
        began = time.perf_counter()
        for _ in reverie.Trainer(run, examples):
            if time.perf_counter() - began > seconds:
                break
    return out


def sampled(network: Network, out: Path, seed: int, guided: bool) -> Problem:
    """The problem of a trained run: the classes in turn, with the guidance of its own recipe, or none at all."""
    run, twin = reverie.load(out), reverie.load(out)
    guidance = run.recipe.sample.guidance if guided else 1.0
    twin.denoiser.double()
    start = next((name for name, s in STARTS.items() if s == run.schedule), None)
    if start is None:
        raise ValueError(
            f"{out} was trained on {run.schedule}; this benchmark knows {', '.join(map(str, STARTS.values()))}"
        )

    def maker(f: Denoises) -> Callable[[reverie.Schedule], Denoises]:
        def make(schedule: reverie.Schedule) -> Denoises:
            inside = f if schedule == f.schedule else reverie.Rescheduled(f, schedule)
            return reverie.ClassifierFree(inside, guidance) if guided else inside

        return make

    for parameter in (*run.denoiser.parameters(), *twin.denoiser.parameters()):
        parameter.requires_grad_(False)
    like = torch.empty(network.n, *run.shape, dtype=DOUBLE)
    noise, other = (reverie.streams([(seed, j, i) for i in range(network.n)])(like) for j in (1, 2))
    model = hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()
    label = torch.arange(network.n) % len(run.facts.classes)
    cond = (
        reverie.Cond(label=label) if guided else reverie.Cond(label=label, drop=torch.ones(network.n, dtype=torch.bool))
    )
    name = f"{network.name}-guided" if guided else network.name
    return Problem(
        name,
        start,
        maker(run.denoiser),
        noise,
        cond,
        precise=maker(twin.denoiser),
        tolerance=1e-6,
        cache=out.parent / f"{model[:16]}-{seed}-{guidance:g}",
        network=True,
        spread=0.6,
        practice=other,
        practice_cond=cond,
    )


def mixtures(seed: int, names: list[str] | None = None) -> Iterator[Problem]:
    """Every mixture from every start; one start of each first, so that a run cut short has seen them all."""
    kinds = [kind for kind in (*MIXTURES, *GUIDED) if names is None or kind.name in names]
    starts = list(STARTS)
    for shift in range(len(starts)):
        for i, kind in enumerate(kinds):
            yield mixture(kind, starts[(i + shift) % len(starts)], seed)
