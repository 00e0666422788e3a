"""Samples beside real examples: numbers with their spread, their floor and their protocol.

    value   of all samples beside the whole reference
    error   the standard error of the value: from the same number of several disjoint parts of the samples,
            s / sqrt(parts), or where a part is too small for it, from leaving one tenth out at a time (Tukey, 1958)
    floor   of real examples that are not in the reference, no more of them than there are samples; none in features
            that were learnt from all the real examples there are

Letters in shapes: N samples, M examples of the reference.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import torch

from reverie import config
from reverie.config import Plain
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Extractor, Features, Opened, suited
from reverie.evaluation.extractors.embedding import aligned, blocks, embed
from reverie.evaluation.given import check_alike, check_real, told_of
from reverie.evaluation.metrics import Metric, Unfit, standard
from reverie.evaluation.numbers import Evaluation, LeftOut, Number, distinct
from reverie.evaluation.own import own
from reverie.evaluation.remembered import remembered
from reverie.evaluation.team import Team, one_thread
from reverie.version import __version__

TENTHS = 10
"""Parts of which one at a time is left out, where sets are too small; of fewer samples each is a part."""
SEED = 17
"""Of the permutation by which samples are dealt into sets."""

Told = Callable[[str, float], object]
"""Is told what is being done, and what share of it is behind us."""


def quiet(what: str, share: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Settings:
    """What is measured.

    Raises:
        ValueError: fewer than 3 sets.
    """

    extractors: tuple[Extractor, ...] = ()
    """In whose features, repeats aside; those that suit the data unless given."""
    metrics: tuple[Metric, ...] = ()
    """Repeats aside; those that suit each extractor unless given."""
    sets: int = 3
    """Disjoint parts of the samples, from which the error is told."""

    def __post_init__(self) -> None:
        if self.sets < 3:
            raise ValueError(f"an error needs at least 3 disjoint sets of samples; given sets={self.sets}")


@dataclass(frozen=True)
class Judged:
    """A reference made ready, so that several sets of samples can be put beside it.

    Attributes:
        name: of the extractor, which no other of the reference has.
        extractor: its settings.
        opened: itself.
        real, floor: features of the reference and of the real examples that give the floor.
        metrics: what is measured in its features, by names of which no two are the same.
    """

    name: str
    extractor: Extractor
    opened: Opened
    real: Features
    floor: tuple[Features, Features] | None
    metrics: dict[str, Metric]

    @property
    def protocol(self) -> dict[str, Plain]:
        """What a protocol says of the extractor."""
        opened = self.opened
        name: dict[str, Plain] = {"name": self.name} if self.name != self.extractor.kind else {}
        return {
            **config.to_data(self.extractor), **name, "digest": opened.digest, "features": opened.width, **opened.about,
        }  # fmt: skip


class Reference:
    """Real examples that samples are compared with, made ready once: features, floors, protocol.

    Args:
        real: the reference, M of them.
        settings: what is measured.
        floor: other real examples; the halves of the reference, beside each other, unless given, and nothing in
            features that were learnt from it.
        team: the processes that share the work.
        device: where extractors work.
        told: told of the progress.

    Raises:
        ValueError: a reference that is no collection of real examples, floor examples of another shape, or
            extractors that cannot work on these data.
    """

    def __init__(
        self, real: Collection, settings: Settings | None = None, floor: Collection | None = None,
        team: Team = Team(), device: torch.device | str = "cpu", told: Told = quiet,  # noqa: B008  # a value
    ) -> None:  # fmt: skip
        check_real(real)
        self.settings = Settings() if settings is None else settings
        self.real, self.team, self.device, self.told = real, team, torch.device(device), told
        self.floor = floor if floor is not None and len(floor) > 1 else None
        if self.floor is not None:
            check_alike(self.floor, real, "the examples for the floor")
        asked: list[tuple[Extractor, tuple[Metric, ...]]] = [
            (extractor, tuple(dict.fromkeys(self.settings.metrics)))
            for extractor in dict.fromkeys(self.settings.extractors or suited(real))
        ]
        if not (self.settings.extractors or self.settings.metrics):
            asked += own(real)
        opened = [extractor.open(real, self.device) for extractor, _ in asked]
        names = _names([extractor for extractor, _ in asked], opened)
        self.judges = tuple(self._judge(name, one, *each) for name, one, each in zip(names, opened, asked, strict=True))
        self.floors: dict[tuple[str, str, int], tuple[float, int] | None] = {}

    def _judge(self, name: str, opened: Opened, extractor: Extractor, metrics: tuple[Metric, ...]) -> Judged:
        real = self._kept(name, extractor, opened, self.real, "reference")
        floor: tuple[Features, Features] | None = None
        if self.floor is not None:
            floor = (self._kept(name, extractor, opened, self.floor, "other real examples"), real)
        elif not extractor.learns and len(real) > 3:  # what was learnt from is known better than anything new
            order = _order(len(real))
            half = len(real) // 2
            floor = (real.take(np.sort(order[:half])), real.take(np.sort(order[half:])))
        network = str(opened.about.get("network", ""))
        chosen = metrics or standard(
            extractor.learned, real.probabilities is not None, real.labels is not None, network
        )
        names = distinct([metric.name for metric in chosen])
        return Judged(name, extractor, opened, real, floor, dict(zip(names, chosen, strict=True)))

    def _kept(self, name: str, extractor: Extractor, opened: Opened, of: Collection, what: str) -> Features:
        """Features of real examples, which are the same every time."""
        found = remembered(
            extractor, opened, of, self.team, self.device, lambda: self._features(name, opened, of, what)
        )
        return replace(found, labels=self._labels(opened, found, of))

    def _features(self, name: str, opened: Opened, of: Collection, what: str) -> Features:
        total = blocks(opened, len(of))

        def done(n: int) -> None:
            self.told(f"{name}: {what}", min(1.0, n * self.team.size / total))

        found = embed(opened, of.items, self.team, self.device, done)
        return replace(found, labels=self._labels(opened, found, of))

    def _labels(self, opened: Opened, found: Features, of: Collection) -> np.ndarray | None:
        """Each example's class as the extractor numbers them, or as the reference does where it tells none apart."""
        if opened.classes or found.probabilities is not None:
            return aligned(opened, of)
        numbers = {name: number for number, name in enumerate(self.real.classes)}
        if of.labels is None or not set(of.classes) <= set(numbers):
            return None
        return np.array([numbers[name] for name in of.classes])[of.labels]

    # ------------------------------------------------------------------------------------ numbers

    def evaluate(self, made: Collection) -> Evaluation:
        """The numbers of these samples.

        Raises:
            ValueError: samples of another shape than the reference, too few, or nothing that can be measured of them.
        """
        began = time.perf_counter()
        check_alike(made, self.real, "the samples")
        if len(made) < 2:
            raise ValueError(f"a distance between sets needs at least 2 samples; given {len(made)}")
        numbers: list[Number] = []
        left_out: list[LeftOut] = []
        for judge in self.judges:
            features = self._features(judge.name, judge.opened, made, "samples")
            with one_thread():
                for name in judge.metrics:
                    self.told(f"{judge.name}: {name}", 0.0)
                    try:
                        numbers.append(self._number(name, judge, features))
                    except Unfit as error:
                        left_out.append(LeftOut(name, str(error), judge.name))
        if not numbers:
            why = "; ".join(f"{part.name} by {part.extractor}: {part.why}" for part in left_out[:3])
            raise ValueError(f"nothing can be measured of these samples: {why}")
        about: dict[str, Plain] = {
            "reverie": __version__, "torch": torch.__version__, "device": self.device.type,
            "processes": self.team.size, "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - began, 2),
        }  # fmt: skip
        return Evaluation({"samples": told_of(made), **self.protocol}, tuple(numbers), tuple(left_out), about)

    @property
    def protocol(self) -> dict[str, Plain]:
        """All that the numbers depend on but the samples."""
        learnt = [judge.name for judge in self.judges if judge.extractor.learns]
        none = f"; none by {' and '.join(learnt)}, learnt from it" if learnt else ""
        floor: dict[str, Plain] = {"source": f"the reference, one half beside the other{none}"}
        return {
            "reference": {**told_of(self.real), "augmented": False},
            "floor": floor if self.floor is None else told_of(self.floor),
            "extractors": [judge.protocol for judge in self.judges],
            "metrics": {
                judge.name: {name: metric.protocol for name, metric in judge.metrics.items()} for judge in self.judges
            },
            "sets": self.settings.sets,
        }

    def _number(self, name: str, judge: Judged, made: Features) -> Number:
        metric, real = judge.metrics[name], judge.real
        metric.check(made, real)
        value = metric(made, real)
        sets, error = self._spread(metric, made, real)
        floor = self._floor(name, judge, len(made))
        matched = self._matched(metric, judge, made, floor[1]) if floor else None
        title = (metric.title or metric.name) + name.removeprefix(metric.name)
        return Number(
            name, title, value, judge.name, metric.better, metric.unit, error,
            sets, floor[0] if floor else None, floor[1] if floor else None, matched,
            metric.note(len(made), len(real), judge.opened.width),
        )  # fmt: skip

    def _matched(self, metric: Metric, judge: Judged, made: Features, n: int) -> float | None:
        """The number of so many of the samples, beside what the floor is beside; None where that is all of both."""
        assert judge.floor is not None
        real = judge.floor[1]
        if n == len(made) and real is judge.real:
            return None
        with suppress(Unfit):
            return _measured(metric, made.take(np.sort(_order(len(made))[:n])), real)
        return None

    def _spread(self, metric: Metric, made: Features, real: Features) -> tuple[tuple[float, ...], float | None]:
        """The number of each set, and the standard error of that of all samples."""
        order = _order(len(made))
        parts = [np.sort(part) for part in np.array_split(order, self.settings.sets)]
        with suppress(Unfit):
            sets = tuple(_measured(metric, made.take(part), real) for part in parts)
            return sets, float(np.std(sets, ddof=1) / math.sqrt(len(sets)))
        tenths = np.array_split(order, min(TENTHS, len(order)))
        try:
            without = [
                _measured(metric, made.take(np.sort(np.concatenate([t for j, t in enumerate(tenths) if j != i]))), real)
                for i in range(len(tenths))
            ]
        except Unfit:
            return (), None
        return (), float(np.std(without) * math.sqrt(len(tenths) - 1))

    def _floor(self, name: str, judge: Judged, n: int) -> tuple[float, int] | None:
        """The number of real examples, and of how many; None where they are too few. Computed once."""
        key = (judge.name, name, n)
        if key not in self.floors:
            self.floors[key] = None
            if judge.floor is not None:
                other, real = judge.floor
                other = other.take(np.sort(_order(len(other))[:n]))
                with suppress(Unfit):
                    self.floors[key] = (_measured(judge.metrics[name], other, real), len(other))
        return self.floors[key]


def evaluate(
    made: Collection, real: Collection, settings: Settings | None = None, floor: Collection | None = None,
    team: Team = Team(), device: torch.device | str = "cpu", told: Told = quiet,  # noqa: B008  # a value
) -> Evaluation:  # fmt: skip
    """How samples are beside real examples; arguments and errors as for `Reference` and `Reference.evaluate`."""
    return Reference(real, settings, floor, team, device, told).evaluate(made)


def _measured(metric: Metric, made: Features, real: Features) -> float:
    metric.check(made, real)
    return metric(made, real)


def _names(extractors: Sequence[Extractor], opened: Sequence[Opened]) -> tuple[str, ...]:
    """Their kinds; where several are of one kind, with their networks too, and numbered if that tells too little."""
    kinds = [extractor.kind for extractor in extractors]
    networks = [one.about.get("network") for one in opened]
    return distinct(
        [f"{k}: {net}" if net and kinds.count(k) > 1 else k for k, net in zip(kinds, networks, strict=True)]
    )


def _order(n: int) -> np.ndarray:
    """A permutation of n that depends on n alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((SEED, n)))).permutation(n)
