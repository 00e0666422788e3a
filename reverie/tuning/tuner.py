"""Fit grids to the model of a run, and measure them on examples they were not fitted to.

Letters in shapes: B examples, N steps, ... the shape of one example.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.config import Plain
from reverie.denoiser import FixedRows, Wrapper
from reverie.fitting import Fitted, fit
from reverie.grids import Grid
from reverie.prediction import Prediction
from reverie.request import Request
from reverie.runs import Run
from reverie.samplers import Consistency, Sampler
from reverie.sampling import prior
from reverie.synthesis import Notice, guided, rows_at_once
from reverie.tensors import count, host, streams
from reverie.tuning.by_distance import fit_by_distance
from reverie.tuning.choice import effective_guidance, effective_guide
from reverie.tuning.cost import steps_within
from reverie.tuning.judging import Judged, judge, standard_grids, steps_to_judge
from reverie.tuning.keeping import kept
from reverie.tuning.record import Count, Damaged, Tuning, model_of, read
from reverie.version import __version__

NFE = (5, 6, 8, 10, 15, 20, 30)
MOST = 1000
NOISE = 7
"""Keeps the noise of tuning apart from that of samples."""

OnProgress = Callable[[float, str], None]
"""Told the share done, 0 to 1, and what is being done."""


@dataclass(frozen=True)
class Settings:
    """What is fitted, and how.

    Raises:
        ValueError: a number out of its range, named.
    """

    nfe: tuple[int, ...] = NFE
    """Numbers of evaluations."""
    sampler: Sampler | None = None
    """The run's own unless given."""
    guidance: float | None = None
    """The run's own unless given."""
    clip: bool | None = None
    """The run's own unless given."""
    n: int | None = None
    """Examples to fit to, and as many more to measure on; by the size of one unless given."""
    seed: int = 0
    reference_steps: int = 300
    """Of the fine solution that stands for the exact one."""
    seconds: float = 100.0
    """About how long it may take; a fit that is cut short gives the best it has found."""

    def __post_init__(self) -> None:
        if not self.nfe or not all(1 <= number <= MOST for number in self.nfe):
            given = ", ".join(map(str, self.nfe)) or "none"
            raise ValueError(f"nfe must be numbers of evaluations from 1 to {MOST}, such as 5,10,20; given {given}")
        if self.guidance is not None and not 0 <= self.guidance < float("inf"):
            raise ValueError(f"guidance must be at least 0 (1 is none); given {self.guidance}")
        for name, least in (("n", 2), ("seed", 0), ("reference_steps", 10), ("seconds", 0)):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"{name} must be at least {least}; given {value}")


def _warned(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=6)


def tune(
    run: Run, settings: Settings | None = None, on_progress: OnProgress | None = None, notice: Notice = _warned
) -> Tuning:
    """Fit a grid for each number of evaluations, keep them in the run, and return what it has for these settings.

    For `Consistency`, which solves no equation step by step, see `fit_by_distance`.

    The fit sees the run's denoiser as sampling does: with guidance and clipping, every class in turn,
    a fixed number of rows at a time on a CPU. The errors are measured on as many examples more. Grids
    fitted before for the same model and settings stay, but for the counts that are fitted again. A damaged
    file is moved to tuned.json.damaged, and a new one written.

    Args:
        run: saved at least once; its network may be on any device.
        settings: `Settings()` unless given.
        on_progress: told how far it is.
        notice: told of a file that was damaged; a warning unless given.

    Raises:
        ValueError: a sampler that draws noise, guidance for a model without classes, clipping of data that are no
            pixels, fewer evaluations than one step takes, or a run not saved yet.
    """
    settings = Settings() if settings is None else settings
    told = on_progress or (lambda done, what: None)
    own = run.recipe.sample
    if _has_no_flow(run, settings.sampler or own.sampler):
        chosen = replace(
            own,
            sampler=settings.sampler or own.sampler,
            guidance=own.guidance if settings.guidance is None else settings.guidance,
            clip=own.clip if settings.clip is None else settings.clip,
        )
        return fit_by_distance(run, chosen, settings, told, notice)
    return _Tuning(run, settings, told, notice).result()


def _has_no_flow(run: Run, sampler: Sampler) -> bool:
    """Whether times are fitted to the distance of samples: of a model of no flow, which `Consistency` samples."""
    return isinstance(sampler, Consistency) and not run.recipe.loss.flows


def planned(run: Run, settings: Settings) -> tuple[tuple[int, int, int], ...]:
    """For each of `settings.nfe`: it, the most evaluations up to it that the sampler can make, and their steps.

    Raises:
        ValueError: as `tune`.
    """
    sampler = _sampler(run, settings.sampler)
    return tuple((limit, *steps_within(sampler, run.schedule, limit, _start(run))) for limit in settings.nfe)


def _sampler(run: Run, sampler: Sampler | None) -> Sampler:
    """The sampler to fit for, if it solves the flow ODE."""
    own = run.recipe.sample
    chosen = replace(own, sampler=own.sampler if sampler is None else sampler).completed(run.space, run.shape).sampler
    if not chosen.deterministic and not _has_no_flow(run, chosen):
        whose = "the run's sampler, " if sampler is None else ""
        raise ValueError(
            f"{whose}{chosen.kind}, draws noise, and a grid is fitted to the exact solution of the flow ODE, which "
            f"only a deterministic sampler follows: reverie tune {run.path} --sampler adams"
        )
    if chosen.adaptive:
        raise ValueError(f"{chosen.kind} chooses its steps itself, by its tolerance; there is no grid to tune")
    return chosen


def _start(run: Run) -> float:
    """Where the run's own grid starts: 1, unless its recipe says otherwise."""
    return float(run.grid(run.schedule)[0])


class _Unreminded(Wrapper):
    """A self-conditioned denoiser told no estimate: the fit takes steps again from the middle, with no call before."""

    @property
    def self_conditioned(self) -> bool:
        return False

    def __call__(self, x: Tensor, t: Tensor, cond: Cond | None = None) -> Prediction:
        return self.denoiser(x, t, cond)


class _Tuning:
    """One fit: what is fixed before it."""

    def __init__(self, run: Run, settings: Settings, on_progress: OnProgress, notice: Notice) -> None:
        self.began = time.perf_counter()
        self.run, self.settings, self.on_progress, self.notice = run, settings, on_progress, notice
        if settings.guidance not in (None, 1) and not run.vocabulary.parts:
            raise ValueError(f"{run.path} was trained without classes, so nothing is guided; leave guidance out")
        own, self.start = run.recipe.sample, _start(run)
        scale = own.guidance if settings.guidance is None else settings.guidance
        clip = own.clip if settings.clip is None else settings.clip
        made = replace(own, sampler=_sampler(run, settings.sampler), guidance=scale, clip=clip)
        self.sampling = replace(made, guidance=effective_guidance(run, made), guide=effective_guide(run, made))
        self.sampling.check(run.space)
        if not run.recipe.loss.flows or run.recipe.loss.leaps:
            raise ValueError(
                f"{run.path} has learned steps (loss.kind={run.recipe.loss.kind}) that are no solution of its flow "
                f"ODE, so there is nothing to fit times to; of students, times are fitted for sampler.kind=consistency"
            )
        self.counts = sorted({(cost, steps) for _, cost, steps in planned(run, settings)})
        denoiser, shape = run.denoiser, run.shape
        self.model = model_of(run)
        self.device = next(denoiser.parameters()).device
        self.n = settings.n or max(16, min(256, 1024 // count(shape)))
        self.asked = replace(run.ask(2 * self.n), seed=settings.seed)
        rows = min(self.n, rows_at_once(shape, self.n, self.device))
        self.f = guided(FixedRows(denoiser, rows), self.sampling)

    def result(self) -> Tuning:
        """Fit, measure, write."""
        with suppress(Damaged):
            read(self.run.path)  # a newer version's file is refused now, not after the work
        self.on_progress(0.0, "looking at the network")
        measuring = self._seconds_to_measure()
        fitted = self._fit(max(1.0, self.settings.seconds - measuring - (time.perf_counter() - self.began)), measuring)
        share = 1 - measuring / max(self.settings.seconds, measuring)
        counts = self._counts(fitted, self._judged(fitted, share))
        self.on_progress(1.0, "done")
        return kept(self.run, self._empty().merged(counts), self.notice)

    # ---------------------------------------------------------------------------------- parts

    def _empty(self) -> Tuning:
        s = self.sampling
        return Tuning(
            self.model, s.sampler, s.guidance, s.clip, self.run.schedule, guide=s.guide, threshold=s.threshold
        )

    def _examples(self, first: int) -> tuple[Tensor, Cond | None]:
        """Noise (B, ...) of variance 1 and condition of examples `first` and after, as stages below draw it."""
        noise = streams([(self.settings.seed, first + i, NOISE) for i in range(self.n)])
        like = torch.empty(self.n, *self.run.shape, device=self.device)
        return noise(like), self._told.condition(slice(first, first + self.n), self.device)

    @cached_property
    def _told(self) -> Request:
        """What is asked, with what the stages of the run draw for it."""
        return self.asked.told(self.sampling, self.device)

    def _at(self, t: Tensor | float, noise: Tensor) -> Tensor:
        return prior(self.f.schedule, t, noise, lambda like: noise)

    def _standards(self) -> dict[str, Grid]:
        return standard_grids(self.run.space.scale(self.run.shape), self.start)

    def _seconds_to_measure(self) -> float:
        """About how long the measurement takes, from the second of two evaluations."""
        noise, cond = self._examples(0)
        t, spent = host(self.start), 0.0
        with torch.no_grad():
            for _ in range(2):
                began = time.perf_counter()
                self.f(self._at(t, noise), t, cond).x0.sum().item()
                spent = time.perf_counter() - began
        fine, each = self.settings.reference_steps, max(cost / steps for cost, steps in self.counts)
        return spent * (fine + each * (self._steps_to_judge() - fine))

    def _fit(self, seconds: float, after: float) -> Fitted:
        noise, cond = self._examples(0)
        share = seconds / (seconds + after)
        return fit(
            _Unreminded(self.f), self.sampling.sampler, [steps for _, steps in self.counts],
            self._at(self.start, noise), cond,
            start=self.start, reference_steps=self.settings.reference_steps, budget_s=seconds, standards={},
            on_progress=lambda done, what: self.on_progress(share * done, f"fitting: {what}"),
        )  # fmt: skip

    def _judged(self, fitted: Fitted, before: float) -> list[Judged]:
        """What is kept for each count, judged on examples of their own."""
        noise, cond = self._examples(self.n)
        total = self._steps_to_judge()
        return judge(
            self.f, self.sampling.sampler, fitted, lambda t: self._at(t, noise), cond,
            start=self.start, standards=self._standards(), reference_steps=self.settings.reference_steps,
            on_step=lambda done, what: self.on_progress(
                before + (1 - before) * min(1.0, done / total), f"measuring: {what}"
            ),
        )  # fmt: skip

    def _steps_to_judge(self) -> int:
        counts = [steps for _, steps in self.counts]
        return steps_to_judge(counts, len(self._standards()), self.settings.reference_steps)

    def _counts(self, fitted: Fitted, judged: list[Judged]) -> list[Count]:
        about: dict[str, Plain] = {
            "reverie": __version__,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "examples": self.n,
            "seed": self.settings.seed,
            "labels": "every class in turn" if self.run.classes else "none",
            "reference_steps": self.settings.reference_steps,
            "reference_rms": fitted.reference_error.rms,
            "device": str(self.device),
            "seconds": round(time.perf_counter() - self.began, 1),
        }
        return [
            Count(cost, each.steps, each.times, each.errors, {**about, "grid": each.kept}, each.weights)
            for (cost, _), each in zip(self.counts, judged, strict=True)
        ]
