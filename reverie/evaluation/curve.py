"""Quality against the cost of a sample, for several samplers, and which of them are worth their cost.

A point is on the Pareto front if no other costs as little or less and is better.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reverie import config, plots
from reverie.config import Plain
from reverie.evaluation.evaluate import Reference
from reverie.evaluation.numbers import FORMAT, Number, protocol_id
from reverie.evaluation.subject import Subject
from reverie.recipe import Sampling
from reverie.runs import Run
from reverie.samplers import Sampler
from reverie.tuning.cost import steps_within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


FOLDER = "curves"
"""Of a run: a JSON file and a picture each."""


@dataclass(frozen=True)
class Point:
    """One sampler at one cost."""

    sampler: str
    grid: str
    tuned: bool
    steps: int
    evaluations: int
    """Of the denoiser, a sample."""
    seconds: float
    """That a thousand samples took, on this machine, beside whatever else it did."""
    number: Number

    @property
    def name(self) -> str:
        """The sampler in a word or two."""
        return f"{self.sampler}, tuned" if self.tuned else self.sampler


@dataclass(frozen=True)
class Curve:
    """Quality against cost, and how it was measured."""

    protocol: Mapping[str, Plain]
    """Of every point, less the sampler."""
    points: tuple[Point, ...]
    about: Mapping[str, Plain] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """As that of an evaluation."""
        return protocol_id(self.protocol)

    def front(self, cost: str) -> tuple[Point, ...]:
        """The points worth their cost, `evaluations` or `seconds`, the cheapest first."""
        sign = 1.0 if self.points[0].number.better == "lower" else -1.0
        found: list[Point] = []
        for point in sorted(self.points, key=lambda p: (getattr(p, cost), sign * p.number.value)):
            if not found or sign * point.number.value < sign * found[-1].number.value:
                found.append(point)
        return tuple(found)

    def to_data(self) -> dict[str, Plain]:
        """Plain data, as it goes into a file."""
        fronts = {c: [self.points.index(p) for p in self.front(c)] for c in ("evaluations", "seconds")}
        return {"format": FORMAT, "id": self.id, **config.to_data(self), "pareto": fronts}


def planned(run: Run, samplers: Sequence[Sampler], counts: Sequence[int]) -> list[tuple[Sampling, int, bool]]:
    """Settings, the evaluations they take, and whether their grid is a tuned one: for each sampler and count.

    Where a grid was tuned for a sampler, it is measured with and without. A sampler that cannot make so few
    evaluations, or follow the run's process, is left out with a warning.

    Raises:
        ValueError: nothing is left.
    """
    found: list[tuple[Sampling, int, bool]] = []
    for sampler in samplers:
        for count in counts:
            try:
                cost, steps = steps_within(sampler, run.schedule, count)
                plain = run.settings(sampler, grid=run.grid.with_steps(steps))
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    tuned = run.settings(sampler, steps=steps)
            except ValueError as error:
                warnings.warn(f"{sampler.kind} is left out at {count} evaluations: {error}", stacklevel=2)
                continue
            made = [(plain, cost, False)] + ([(tuned, cost, True)] if tuned != plain else [])
            found += [m for m in made if m not in found]
    if not found:
        raise ValueError(f"no sampler makes {' or '.join(map(str, counts))} evaluations here; give larger numbers")
    return found


def measure(subject: Subject, reference: Reference, settings: Sequence[tuple[Sampling, int, bool]]) -> Iterator[Point]:
    """A point for each of the settings, by the first metric of the reference.

    Args:
        subject: the run, how many samples, which classes and seed.
        reference: made ready with the one metric to be measured.
        settings: as `planned` gives them.

    Raises:
        ValueError: as `Reference.evaluate`.
    """
    for sampling, cost, tuned in settings:
        one = replace(subject, sampling=sampling)
        began = time.perf_counter()
        made = one.draw(reference.team, reference.device, reference.told)
        seconds = (time.perf_counter() - began) * 1000 / len(made)
        number = reference.evaluate(made).numbers[0]
        yield Point(one.method.kind, sampling.grid.kind, tuned, one.steps, cost, round(seconds, 3), number)


def picture(curve: Curve, title: str = "") -> Figure:
    """Quality against evaluations and against seconds; rings mark what is worth its cost, a line the floor."""
    figure, axes = plots.page(1, 2, 5.6, 3.9, top=0.5)
    number = curve.points[0].number
    names = list(dict.fromkeys(p.name for p in curve.points))
    scale = 100.0 if number.unit == "%" else 1.0
    told: tuple[tuple[str, str, Callable[[Point], float]], ...] = (
        ("evaluations", "evaluations of the denoiser a sample", lambda p: p.evaluations),
        ("seconds", "seconds a thousand samples", lambda p: p.seconds),
    )
    positive = all(p.number.value > 0 for p in curve.points)
    for panel, (cost, label, at) in zip(axes[0], told, strict=True):
        for i, name in enumerate(names):
            mine = sorted((p for p in curve.points if p.name == name), key=at)
            colour, dash = plots.COLOURS[i % len(plots.COLOURS)], plots.DASHES[i % len(plots.DASHES)]
            values, places = [scale * p.number.value for p in mine], [at(p) for p in mine]
            panel.plot(
                places, values, color=colour, linestyle=dash, marker="o", markersize=4, linewidth=1.5, label=name
            )
            errors = [scale * (p.number.error or 0.0) for p in mine]
            panel.errorbar(places, values, errors, color=colour, linestyle="none", linewidth=3, alpha=0.25)
        front = curve.front(cost)
        panel.plot(
            [at(p) for p in front], [scale * p.number.value for p in front], "o", markersize=10,
            markerfacecolor="none", markeredgecolor=plots.INK, markeredgewidth=1.0, label="worth its cost",
        )  # fmt: skip
        floor = number.floor
        if floor is not None and (floor > 0 or not positive):
            panel.axhline(scale * floor, color=plots.FAINT, linewidth=1, linestyle=":", label="real examples")
        panel.set_xscale("log")
        ticks(panel, sorted({at(p) for p in curve.points}))
        if positive and _spans(curve.points):
            panel.set_yscale("log")
        unit = " (%)" if number.unit == "%" else ""
        better = {"lower": ", lower is better", "higher": ", higher is better"}.get(number.better, "")
        plots.lined(panel, "", label, f"{number.title}, {number.extractor}{unit}{better}")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11, color=plots.INK)
    return figure


def ticks(panel: Axes, places: Sequence[float]) -> None:
    """A tick at each place that is not close to the one before, as plain numbers."""
    from matplotlib.ticker import NullLocator

    shown: list[float] = []
    for place in places:
        if not shown or place > 1.15 * shown[-1]:
            shown.append(place)
    panel.set_xticks(shown, [f"{place:.3g}" for place in shown])
    panel.xaxis.set_minor_locator(NullLocator())


def _spans(points: Sequence[Point]) -> bool:
    """Whether the values span a factor of five."""
    values = [p.number.value for p in points]
    return math.log(max(values) / min(values)) > math.log(5)
