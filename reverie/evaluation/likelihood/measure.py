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
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from reverie import config
from reverie.bound import BINS, variational_bound
from reverie.conditioning import Cond
from reverie.data import Data
from reverie.denoiser import Clipped, Denoises
from reverie.evaluation.likelihood.chosen import choose
from reverie.evaluation.likelihood.figures import Bound, Likelihood, Ode, Progress, Settings, Solver
from reverie.grids import Grid, Knots, LogSNR
from reverie.image_conditions import Shown
from reverie.likelihood import bits_per_dim, dequantised, log_likelihood, solver_table
from reverie.runs import Run
from reverie.synthesis import rows_at_once
from reverie.tensor_files import read_metadata
from reverie.tensors import Streams, count, generator, host, streams
from reverie.version import __version__

STEPS = 256
"""Of the bound's chain, where the process is continuous."""
EXACT_UP_TO = 32
"""Numbers of an example up to which the trace is exact unless said otherwise."""
PROBES = 4
"""Random probes above that: many examples average out what few probes leave."""
LOW = 0.002
"""The lowest sigma / alpha that the denoiser is asked about."""
NOISE, DEQUANTISED, PROBED, SHOWN = 0, 1, 2, 4
"""Keeps the streams of randomness of different uses apart."""


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


# ------------------------------------------------------------------------------- the measurement


class _Measurement:
    """One measurement: what is fixed before the first batch."""

    def __init__(self, run: Run, settings: Settings, data: Data | str | None) -> None:
        if not run.recipe.loss.flows:
            raise ValueError(
                f"{run.path} has learned steps (loss.kind={run.recipe.loss.kind}) and no flow that could be "
                f"followed; measure the run that it has learned from"
            )
        self.run, self.settings, self.f = run, settings, run.denoiser
        self.device = next(self.f.parameters()).device
        self.chosen = choose(run, settings, data)
        self.shape, self.space, self.size = run.shape, run.space, count(run.shape)
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
        first = 0.0 if knots is None else 1 / knots
        least = run.recipe.loss.times_at(torch.tensor([1 - 1e-9], dtype=torch.float64), run.schedule)
        reached = (-run.schedule.log_snr(torch.maximum(least, host(first))) / 2).exp()
        self.low = max(LOW, float(reached))  # nor on a chain or by its times has the model seen less noise
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
        label = None if labels is None else torch.from_numpy(labels[rows]).to(self.device)
        if self.chosen.told is None:
            return rows, items, None if label is None else Cond(label=label)
        x0 = self.space.encode(items)
        cond = self.chosen.told.cond(rows, x0, label)
        if cond is not None and cond.image is not None:
            shown = self._shown(rows, x0)
            cond = replace(cond, image=shown.image, level=shown.level)
        return rows, items, cond

    def _shown(self, rows: np.ndarray, x0: Tensor) -> Shown:
        """What the model is told of pictures (B, C, H, W), each by chance of its own, whichever it is beside."""
        made = self.run.recipe.image_condition
        assert made is not None
        keys = [(self.settings.seed, SHOWN, int(row)) for row in rows]
        shown = [made.of(one, generator(*key)) for one, key in zip(x0.split(1), keys, strict=True)]
        levels = [one.level for one in shown if one.level is not None]
        return Shown(torch.cat([one.image for one in shown]), torch.cat(levels) if levels else None)

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
            "weights": f"average: {run.average}; step {read_metadata(run.file).get('step', '?')}",
            "data": config.to_data(run.recipe.data)["kind"] if chosen.source == "its own" else chosen.source,
            "split": chosen.split,
            "examples": f"{len(chosen.rows)} of {chosen.available}",
            "dimensions": self.size,
            "unit": self._unit(),
            "label": told,
            **self._image_told(),
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

    def _image_told(self) -> dict[str, config.Plain]:
        if self.run.recipe.image_condition is None:
            return {}
        return {"image": "none" if self.chosen.told is None else "of the example"}

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
