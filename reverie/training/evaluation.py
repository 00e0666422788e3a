"""Evaluation in training: samples of the averaged weights beside the training examples, every so many steps.

All processes draw and extract together. What is the same every time - the reference's features, the opened
extractor, the floor - is made once, before training begins, and whatever cannot work is refused then.

Letters in shapes: N samples, M examples of the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from reverie import config
from reverie.config import Plain
from reverie.data import Examples
from reverie.denoiser import Denoiser
from reverie.recipe import Evaluating
from reverie.runs import Run
from reverie.training.sheets import shortened
from reverie.training.speed import arithmetic

if TYPE_CHECKING:
    from reverie.evaluation.collection import Collection
    from reverie.evaluation.extractors import Extractor
    from reverie.evaluation.metrics import Metric
    from reverie.evaluation.team import Team

REFERENCE = 4
"""Training examples in the reference, at the most, for each sample."""
LEAST = 10
"""Training examples without which nothing is compared."""
LEARNED, VALUES = "kid", "sliced_wasserstein"
"""The metric in features of a network, which is unbiased for few samples, and in others."""
ALONGSIDE = ("kid", "mmd", "precision", "recall", "sliced_wasserstein")
"""What is measured besides, where it suits the features: it is quick, and bears few samples."""


def check_evaluating(settings: Evaluating) -> None:
    """Refuse names that there are not, at best before there is a run of that recipe.

    Raises:
        ValueError: no such metric or extractor, or a metric of which no value is the best.
        ImportError: the extractor needs a package that is not installed.
    """
    if not settings.every:
        return
    from reverie.evaluation.extractors import from_text

    if settings.metric:
        metric_of(settings, learned=True)
    if settings.extractor:
        from_text(settings.extractor)


def metric_of(settings: Evaluating, learned: bool) -> Metric:
    """The metric by which weights are the best, in features that a network has `learned` or in others.

    Raises:
        ValueError: there is no such metric, or several are named, or none of its values is the best.
    """
    from reverie.evaluation.metrics import from_names

    found = from_names(settings.metric or (LEARNED if learned else VALUES))
    if len(found) != 1:
        raise ValueError(f"evaluate.metric is the one by which weights are the best; given {settings.metric!r}")
    if found[0].better == "neither":
        raise ValueError(f"evaluate.metric={found[0].kind} has no best value; name another, such as {LEARNED}")
    return found[0]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found.

    Attributes:
        value: by which weights are compared; None where it could not be measured.
        error: its standard error.
        floor: the same of held-out examples, or of halves of the reference where nothing is held out.
        numbers: all that was measured, by name.
        why: there is no value, in words.
    """

    value: float | None
    error: float | None = None
    floor: float | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    why: str = ""

    @property
    def line(self) -> dict[str, Any]:
        """What goes into metrics.jsonl."""
        told = {"value": self.value, "error": self.error, "floor": self.floor, "numbers": dict(self.numbers)}
        return {**told, "why": self.why} if self.why else told


class Evaluator:
    """Measures a run's averaged weights, always with the same reference, seeds and settings.

    Args:
        run: whose recipe says how.
        examples: its data.
        team: the processes that share the work.
        device: where sampling and features are computed.

    Raises:
        ValueError: data, extractor and metric do not fit one another; the sentence says what would do.
        ImportError: the extractor needs a package that is not installed.
    """

    def __init__(self, run: Run, examples: Examples, team: Team, device: torch.device) -> None:
        from reverie.evaluation.evaluate import Reference, Settings
        from reverie.evaluation.reading import of_run
        from reverie.evaluation.subject import Subject

        self.run, self.team, self.device, settings = run, team, device, run.recipe.evaluate
        real = of_run(run, REFERENCE * settings.n, settings.n, settings.seed, examples)
        if len(real.train) < LEAST:
            raise ValueError(
                f"an evaluation needs at least {LEAST} training examples to compare samples with, and {run.path} has "
                f"{len(real.train)}; set evaluate.every=0"
            )
        self.sampling = shortened(run.recipe.sample, run.schedule, settings.steps)
        self.subject = Subject(run, self.sampling, settings.n, seed=settings.seed).beside(real.train)
        extractor = _extractor(settings, real.train)
        self.metric, self.extractor = metric_of(settings, extractor.learned), extractor.kind
        with self._float32():
            chosen = Settings((extractor,), (self.metric, *_alongside(self.metric, extractor.learned)))
            self.reference = Reference(real.train, chosen, real.held_out, team, device)
        self._check()
        self.protocol = self._protocol()

    @property
    def lower(self) -> bool:
        """Whether a lower value is better."""
        return self.metric.better == "lower"

    @property
    def id(self) -> str:
        """A hash of all that the value depends on but the weights."""
        from reverie.evaluation.numbers import protocol_id

        return protocol_id({"all": self.protocol})

    def measure(self, f: Denoiser) -> Outcome:
        """The numbers of samples of f, on every process the main one's.

        The weights are the main one's too: those of the others are overwritten, should they differ.
        """
        if self.team.size > 1:
            from torch import distributed

            for tensor in f.net.state_dict().values():
                distributed.broadcast(tensor, 0)
        with self._float32(), torch.no_grad():
            found = [self._measured(f)]
        if self.team.size > 1:
            distributed.broadcast_object_list(found, 0)
        return found[0]

    def _measured(self, f: Denoiser) -> Outcome:
        from reverie.evaluation.drawing import draw
        from reverie.evaluation.subject import as_collection

        run = self.run
        request = self.subject.request()
        items = draw(f, run.space, run.shape, request, self.sampling, team=self.team, device=self.device)
        if not np.isfinite(items).all():
            return Outcome(None, why="there are samples with numbers that are not finite")
        try:
            found = self.reference.evaluate(as_collection(run, items, request))
        except ValueError as error:
            return Outcome(None, why=str(error))
        numbers = {number.name: number for number in found.numbers}
        values = {name: number.value if np.isfinite(number.value) else None for name, number in numbers.items()}
        own = numbers.get(self.metric.name)
        if own is None or values[own.name] is None:
            why = [part.why for part in found.left_out if part.name == self.metric.name]
            return Outcome(None, numbers=values, why=(why or [f"{self.metric.name} is not finite"])[0])
        return Outcome(own.value, own.error, own.floor, values)

    def _check(self) -> None:
        """Refuse what would fail at every evaluation, by real examples in the place of samples.

        Raises:
            ValueError: the metric is not defined in these features, or for so few.
        """
        from reverie.evaluation.metrics import Unfit

        (judge,) = self.reference.judges
        made = judge.real.take(np.arange(self.subject.n) % len(judge.real))
        if not self.run.classes:
            made = replace(made, labels=None)
        try:
            self.metric.check(made, judge.real)
        except Unfit as error:
            hint = "change evaluate.n, evaluate.metric or evaluate.extractor, or set evaluate.every=0"
            raise ValueError(f"{error}; {hint}") from None

    def _protocol(self) -> dict[str, Plain]:
        """All that the value depends on but the weights."""
        sampling, run = config.to_data(self.sampling), self.run
        steps = len(self.sampling.grid(run.schedule)) - 1
        samples: dict[str, Plain] = {
            "n": self.subject.n, "seed": run.recipe.evaluate.seed, "weights": "the exponential average of training",
            **sampling, "steps": steps, "classes": "as often as in the reference" if run.classes else "none",
            "quantization": "rounded to 8 bits" if run.facts.image else "none",
        }  # fmt: skip
        return {"metric": self.metric.name, "samples": samples, **self.reference.protocol}

    def _float32(self) -> AbstractContextManager[None]:
        """float32 throughout, whatever training computes in."""
        return arithmetic(replace(self.run.recipe.train, tf32=False), self.device)


def _extractor(settings: Evaluating, real: Collection) -> Extractor:
    """The one asked for; by the data the first that suits them and has nothing to learn first."""
    from reverie.evaluation.extractors import from_text, suited

    if settings.extractor:
        return from_text(settings.extractor)
    known = suited(real)
    return next((extractor for extractor in known if not extractor.learns), known[0])


def _alongside(metric: Metric, learned: bool) -> tuple[Metric, ...]:
    from reverie.evaluation.metrics import standard

    return tuple(m for m in standard(learned, probabilities=False) if m.kind in ALONGSIDE and m.kind != metric.kind)
