r"""Bits per dimension of a run's data, by the variational bound and by the flow ODE.

Both answer how many bits a number of an example costs under the model, -log2 p(data) / D, and neither is
the other's: the bound is of the chain that ancestral sampling follows, the ODE's density of the
deterministic flow. Of 8-bit values, both are upper bounds on the bits of a lossless code:

    bound   E[L_T + sum_i L_i + L_0], the decoder counting the mass of a value's bin
    ode     E[-log2 p(data + u)], u uniform on a bin: uniform dequantisation (Theis et al., 2016)

Other data have a density, in their own units, whose bits may be negative.

Letters in shapes: N examples, B batch, D numbers of one example, T steps of the chain, ... one example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reverie import config
from reverie.bound import BINS, variational_bound
from reverie.conditioning import Cond
from reverie.data import Data, Examples, resolve
from reverie.denoiser import Clipped, Denoises
from reverie.grids import Grid, Knots, LogSNR
from reverie.likelihood import bits_per_dim, dequantised, log_likelihood, solver_table
from reverie.runs import MODEL, Run, check_data, read_metadata
from reverie.synthesis import rows_at_once
from reverie.tensors import Streams, count, host, streams
from reverie.version import __version__

STEPS = 256
"""Of the bound's chain, where the process is continuous."""
EXACT_UP_TO = 32
"""Numbers of an example up to which the trace is exact unless said otherwise."""
PROBES = 4
"""Random probes above that: many examples average out what few probes leave."""
LOW = 0.002
"""The lowest sigma / alpha that the denoiser is asked about."""
NOISE, DEQUANTISED, PROBED, CHOSEN = 0, 1, 2, 3
"""Keeps the streams of randomness of different uses apart."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how.

    Raises:
        ValueError: a number out of its range, named.
    """

    n: int = 256
    """Examples, drawn without replacement; all there are, if fewer."""
    split: str | None = None
    """Of the data: train, validation or all; unless given, what the run held out, and all of other data."""
    label: str = "own"
    """Whether a model with classes is told the example's own, or none."""
    steps: int | None = None
    """T of the bound's chain; its own knots, or `STEPS`, unless given."""
    fraction: float | None = None
    """Of the chain's variance where it is not learned; that of the run's ancestral sampler, else 1."""
    ode_steps: int = 64
    probes: int | None = None
    """0 for the exact trace; unless given, exact up to D = 32, 4 above."""
    draws: int = 1
    """Of the dequantisation, averaged; one is the convention."""
    seed: int = 0
    batch: int = 64
    """Examples at a time; changes no number on a CPU, and only rounding elsewhere."""
    bound: bool = True
    ode: bool = True

    def __post_init__(self) -> None:
        for name, least in (("n", 1), ("ode_steps", 1), ("draws", 1), ("batch", 1), ("seed", 0), ("probes", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}; given {value}")
        if self.steps is not None and self.steps < 2:
            raise ValueError(f"the bound's chain needs at least 2 steps, one of them the decoder; given {self.steps}")
        if self.fraction is not None and not 0 <= self.fraction <= 1:
            raise ValueError(f"the variance needs a fraction in [0, 1]; given {self.fraction}")
        for name, known in (("split", (None, "train", "validation", "all")), ("label", ("own", "none"))):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{name} is one of {', '.join(k for k in known if k)}; given {value!r}")
        if not (self.bound or self.ode):
            raise ValueError("neither the bound nor the flow ODE is asked for; ask for one or both")


@dataclass(frozen=True)
class Bound:
    """The variational bound, its terms in nats per dimension; their sum over log 2 is `bits_per_dim`."""

    t: tuple[float, ...]
    """(T - 1,), from where each step starts."""
    nats_per_dim: tuple[float, ...]
    """(T - 1,), E KL(q(x_s | x_t, x0) || p(x_s | x_t)) of each step."""
    prior: float
    """L_T."""
    decoder: float
    """L_0, of the data in their own units."""
    bits_per_dim: float
    standard_error: float | None
    """Over the examples, the noise of each term included; None of a single one."""


@dataclass(frozen=True)
class Ode:
    """The likelihood by the flow ODE."""

    bits_per_dim: float
    standard_error: float | None
    """Over the examples, with all that follows included; None of a single one."""
    from_probes: float
    """The part of it that random probes of the trace have: 0 where it is exact."""
    from_dequantisation: float
    """The part that the draw of u has, seen in a second one; 0 for data on no grid."""
    nats: float
    """The mean log density of an example's data, dequantised where they lie on a grid."""
    evaluations: int
    """Points (x, t) that the denoiser was asked about, for each example and draw."""


@dataclass(frozen=True)
class Solver:
    """What a number of steps of the ODE gives, of the first batch of examples."""

    steps: int
    evaluations: int
    bits_per_dim: float
    change: float
    """The mean distance from what the most steps give, in bits per dimension."""


@dataclass(frozen=True)
class Likelihood:
    """What was measured, and how."""

    protocol: dict[str, config.Plain]
    bound: Bound | None
    ode: Ode | None
    solver: tuple[Solver, ...]

    def to_data(self) -> dict[str, config.Plain]:
        """Plain data, as it goes into a file; what was not measured is left out."""
        plain = config.to_data(self)
        return {key: value for key, value in plain.items() if value not in (None, [])}


@dataclass(frozen=True)
class Progress:
    """How far a measurement is, in batches, and at its end the result."""

    done: int
    total: int
    result: Likelihood | None = None


def measure(run: Run, settings: Settings | None = None, data: Data | str | None = None) -> Iterator[Progress]:
    """Measure, a batch at a time; the last `Progress` has the result.

    Whatever the batch, the numbers of an example depend on the seed and its place in the data alone.
    The model is the run's, on the device it is on, without guidance; on pixels the bound's chain
    holds x0 in [-1, 1] (Ho et al., 2020, released code), the flow does not.

    Args:
        run: saved at least once.
        settings: `Settings()` unless given.
        data: a part, or a name or path as on the command line; the run's own unless given.

    Raises:
        ValueError: data of another shape or other classes, an empty split, or a run not saved yet.
    """
    settings = Settings() if settings is None else settings
    return _Measurement(run, settings, data).parts()


# ------------------------------------------------------------------------------------- the data


@dataclass(frozen=True)
class Chosen:
    """The examples that are measured: rows of all that a source holds."""

    examples: Examples
    rows: np.ndarray
    available: int
    """How many there were to choose from."""
    labels: np.ndarray | None
    """(N,), what the model is told of each row of `examples`."""
    source: str
    split: str


def choose(run: Run, settings: Settings, data: Data | str | None) -> Chosen:
    """The examples to be measured, in an order that the seed decides.

    Raises:
        ValueError: they are none, of another shape, or of classes that the model does not know.
    """
    source = _source(run, data)
    examples, own = source.load(), data is None or config.to_data(source) == config.to_data(run.recipe.data)
    if own:
        check_data(run, examples)
    given, taken = _shape(examples.shape), _shape(run.facts.shape)
    if examples.shape != run.facts.shape or examples.image != run.facts.image:
        kinds = ["images" if image else "arrays" for image in (examples.image, run.facts.image)]
        raise ValueError(f"the data are {kinds[0]} of shape {given}, and {run.path} models {kinds[1]} of {taken}")
    split = settings.split or ("validation" if own else "all")
    train = run.recipe.train
    parts = None if split == "all" else source.split(examples, train.validation, train.seed)
    rows = np.arange(len(examples)) if parts is None else getattr(parts, split)
    if not len(rows):
        raise ValueError(f"there are no examples in split {split!r} of the data; name another --split, or other data")
    random = np.random.Generator(np.random.Philox(np.random.SeedSequence((settings.seed, CHOSEN, len(rows)))))
    taken_rows = rows[random.permutation(len(rows))[: settings.n]]
    labels = _labels(run, settings, examples)
    return Chosen(examples, taken_rows, len(rows), labels, "its own" if data is None else str(data), split)


def _source(run: Run, data: Data | str | None) -> Data:
    """The data asked for; a folder or file is read as the run's own, if that is of the same kind."""
    if data is None:
        return run.recipe.data
    if not isinstance(data, str):
        return data
    found, own = resolve(data), run.recipe.data
    path = getattr(found, "path", None)
    return found if path is None or type(found) is not type(own) else _elsewhere(own, path)


def _elsewhere(source: Any, path: object) -> Data:  # noqa: ANN401  # a kind of data with a path
    moved: Data = replace(source, path=path)
    return moved


def _labels(run: Run, settings: Settings, examples: Examples) -> np.ndarray | None:
    """For each example the number of its class in the run; None where the model is told nothing."""
    if not run.classes or settings.label == "none":
        return None
    if examples.labels is None:
        raise ValueError(f"{run.path} was trained with labels, and these data have none; write --label none")
    unknown = [name for name in examples.classes if name not in run.classes]
    if unknown:
        known = ", ".join(run.classes[:8]) + (", ..." if len(run.classes) > 8 else "")
        raise ValueError(f"{run.path} knows no class {unknown[0]!r}, only {known}; write --label none")
    return np.array([run.classes.index(name) for name in examples.classes])[examples.labels]


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


# ------------------------------------------------------------------------------- the measurement


class _Measurement:
    """One measurement: what is fixed before the first batch."""

    def __init__(self, run: Run, settings: Settings, data: Data | str | None) -> None:
        self.run, self.settings, self.f = run, settings, run.denoiser
        self.device = next(self.f.parameters()).device
        self.chosen = choose(run, settings, data)
        self.shape, self.space, self.size = run.facts.shape, run.space, count(run.facts.shape)
        try:
            self.volume: float | None = self.space.log_volume(self.shape)
        except ValueError:  # a space without a density of the data
            self.volume = None
        self.grid = _chain(run, settings.steps)
        self.times = self.grid(run.schedule)
        own = getattr(run.sampler, "fraction", None)
        self.fraction = settings.fraction if settings.fraction is not None else 1.0 if own is None else own
        self.learned = run.recipe.parameterization.outputs > 1
        self.bins = BINS if self.space.quantum else 0
        self.probes = (0 if self.size <= EXACT_UP_TO else PROBES) if settings.probes is None else settings.probes
        knots = run.schedule.knots
        first = 0.0 if knots is None else float((-run.schedule.log_snr(host(1 / knots)) / 2).exp())
        self.low = max(LOW, first)  # a chain has not been trained below its first knot
        at_once = rows_at_once(self.shape, settings.batch, self.device)
        self.at_once = min(at_once, 64) if self.device.type == "cpu" else at_once
        rows = self.chosen.rows
        self.blocks = [rows[i : i + self.at_once] for i in range(0, len(rows), self.at_once)]

    def parts(self) -> Iterator[Progress]:
        """Batch by batch."""
        settings, blocks = self.settings, self.blocks
        second = settings.ode and settings.draws == 1 and self.space.quantum > 0
        total = len(blocks) * (settings.bound + settings.ode * settings.draws) + second + settings.ode
        done, terms, values, errors = 0, [], [], []
        yield Progress(done, total)
        for block in blocks if settings.bound else []:
            terms.append(self._bound(block))
            done += 1
            yield Progress(done, total)
        evaluations = 0
        for draw in range(settings.draws * settings.ode):
            found = []
            for block in blocks:
                found.append(self._density(block, draw))
                done += 1
                yield Progress(done, total)
            values.append(torch.cat([v for v, _, _ in found]))
            errors.append(torch.cat([e for _, e, _ in found]))
            evaluations = found[0][2]
        again = self._density(blocks[0], 1)[0] if second else None
        done += second
        yield Progress(done, total)
        ode = self._ode(torch.stack(values), torch.stack(errors), again, evaluations) if settings.ode else None
        bound = self._terms(terms) if settings.bound else None
        solver = self._solver() if settings.ode else ()
        yield Progress(total, total, Likelihood(self._protocol(), bound, ode, solver))

    # ------------------------------------------------------------------------------ one batch

    def _padded(self, block: np.ndarray) -> tuple[np.ndarray, Tensor, Cond | None]:
        """Rows, data and condition of a batch, filled up with its own rows so that all are of one size."""
        rows = np.resize(block, self.at_once)
        items = torch.from_numpy(np.ascontiguousarray(self.chosen.examples.items[rows])).to(self.device)
        labels = self.chosen.labels
        return rows, items, None if labels is None else Cond(label=torch.from_numpy(labels[rows]).to(self.device))

    def _noise(self, rows: np.ndarray, *use: int) -> Streams:
        return streams([(self.settings.seed, int(row), *use) for row in rows])

    def _bound(self, block: np.ndarray) -> tuple[Tensor, Tensor]:
        """The prior's term (B,) and the steps' (B, T) of a batch, in nats.

        A decoder without a learned variance takes that of the step before it (see `reverie.bound`). On a
        continuous process that vanishes as the steps grow finer; there it is sigma^2, as in a chain of one step.
        """
        rows, items, cond = self._padded(block)
        f: Denoises = Clipped(self.f) if self.space.bounded else self.f
        x0, noise = self.space.encode(items), self._noise(rows, NOISE)
        bound = partial(variational_bound, f, x0, cond=cond, noise=noise, fraction=self.fraction, bins=self.bins)
        terms = bound(self.times)
        if self.run.schedule.knots is None and not self.learned:
            terms = replace(terms, steps=torch.cat([terms.steps[:, :-1], bound(self.times[-2:]).steps], 1))
        return terms.prior[: len(block)].cpu(), terms.steps[: len(block)].cpu()

    def _density(self, block: np.ndarray, draw: int) -> tuple[Tensor, Tensor, int]:
        """log p(x0) (B,) in nats, what probes leave (B,), and the evaluations; the same probes for every draw."""
        rows, items, cond = self._padded(block)
        found = log_likelihood(
            self.f, dequantised(self.space, items, self._noise(rows, DEQUANTISED, draw)), cond,
            steps=self.settings.ode_steps, probes=self.probes, noise=self._noise(rows, PROBED), low=self.low,
        )  # fmt: skip
        return found.value[: len(block)].cpu(), found.error[: len(block)].cpu(), found.evaluations

    def _solver(self) -> tuple[Solver, ...]:
        """The flow ODE with a quarter of the steps, a half, and all of them."""
        number = len(self.blocks[0])
        rows, items, cond = self._padded(self.blocks[0])
        rows, items, cond = rows[:number], items[:number], None if cond is None else cond[slice(number)]
        steps = sorted({max(1, self.settings.ode_steps // k) for k in (4, 2, 1)})
        found = solver_table(
            self.f, dequantised(self.space, items, self._noise(rows, DEQUANTISED, 0)), cond, steps,
            probes=self.probes, noise=self._noise(rows, PROBED), low=self.low,
        )  # fmt: skip
        return tuple(
            Solver(row.steps, row.evaluations, float(self._bits(host(row.value * self.size))), row.change / math.log(2))
            for row in found
        )

    # --------------------------------------------------------------------------- the whole

    def _bits(self, nats: Tensor) -> Tensor:
        """Bits per dimension of log densities of x0."""
        if self.volume is None:
            return -nats / (self.size * math.log(2))
        return bits_per_dim(nats, self.shape, self.space)

    def _terms(self, found: list[tuple[Tensor, Tensor]]) -> Bound:
        """The bound of all batches."""
        prior, steps = (torch.cat(parts) for parts in zip(*found, strict=True))
        if not self.bins and self.volume is not None:  # the decoder's density, of the data in their own units
            steps[:, -1] -= self.volume
        each = (prior + steps.sum(1)) / (self.size * math.log(2))
        mean = (steps.mean(0) / self.size).tolist()
        return Bound(
            tuple(self.times[:-2].tolist()),
            tuple(mean[:-1]),
            float(prior.mean()) / self.size,
            mean[-1],
            float(each.mean()),
            _standard_error(each),
        )

    def _ode(self, values: Tensor, errors: Tensor, again: Tensor | None, evaluations: int) -> Ode:
        """The flow's likelihood of all draws (draws, N)."""
        draws, n = values.shape
        unit = self.size * math.log(2)
        each, probed = self._bits(values.mean(0)), errors.mean(0) / unit
        if again is not None:
            within = float((again - values[0, : len(again)]).square().mean()) / 2
        else:
            within = float(values.var(0).mean()) if draws > 1 and self.space.quantum else 0.0
        return Ode(
            float(each.mean()),
            _standard_error(each),
            math.sqrt(float(probed.square().mean()) / n),
            math.sqrt(within / (draws * n)) / unit,
            float(values.mean()) + (self.volume or 0.0),
            evaluations,
        )

    def _protocol(self) -> dict[str, config.Plain]:
        """What one must know to get these numbers again."""
        run, settings, chosen = self.run, self.settings, self.chosen
        told = "none" if chosen.labels is None else "the example's class"
        protocol: dict[str, config.Plain] = {
            "run": str(run.path),
            "weights": f"average: {run.average}; step {read_metadata(run.path / MODEL).get('step', '?')}",
            "data": config.to_data(run.recipe.data)["kind"] if chosen.source == "its own" else chosen.source,
            "split": chosen.split,
            "examples": f"{len(chosen.rows)} of {chosen.available}",
            "dimensions": self.size,
            "unit": self._unit(),
            "label": told,
            "seed": settings.seed,
            "device": str(self.device),
            "reverie": __version__,
        }
        if settings.bound:
            protocol["chain"] = {
                "schedule": config.to_data(run.schedule),
                "grid": config.to_data(self.grid),
                "steps": len(self.times) - 1,
                "variance": "learned" if self.learned else f"fraction {self.fraction:g}",
                "decoder": f"{self.bins} bins" if self.bins else "density",
                "x0": "held in [-1, 1]" if self.space.bounded else "as predicted",
            }
        if settings.ode:
            protocol["ode"] = {
                "steps": settings.ode_steps,
                "trace": f"{self.probes} probes" if self.probes else "exact",
                "lowest sigma / alpha": self.low,
                "dequantisation": f"uniform, {settings.draws} drawn" if self.space.quantum else "none",
            }
        return protocol

    def _unit(self) -> str:
        if self.space.quantum:
            return "bits a number of the data, on their grid"
        return "bits a number, of a density of " + ("x0" if self.volume is None else "the data in their own units")


def _standard_error(each: Tensor) -> float | None:
    """Of the mean of independent numbers (N,)."""
    return float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else None


def _chain(run: Run, steps: int | None) -> Grid:
    """Every knot of the run's own chain, or `steps` of them; on a continuous process steps even in log-SNR.

    These end at half a bin of 8-bit data, where the decoder takes over, else at `LOW`. As many steps even
    in t make a looser bound, with the lower variance by far: most of them are where little is decided.

    Raises:
        ValueError: more steps than the chain has.
    """
    knots = run.schedule.knots
    if knots is None:
        low = 1 / (BINS - 1) if run.space.quantum else LOW
        return LogSNR(STEPS if steps is None else steps, low)
    return Knots(knots) if steps is None else Knots(knots).with_steps(steps)


def name_of(found: Likelihood, settings: Settings) -> str:
    """A file name that tells measurements of a run apart, without an ending."""
    data = Path(str(found.protocol["data"])).stem
    asked = "" if settings.bound and settings.ode else "-bound" if settings.bound else "-ode"
    label = "-label-none" if settings.label == "none" else ""
    return f"{data}-{found.protocol['split']}-n{settings.n}-seed{settings.seed}{label}{asked}"
