"""Students beside their teacher: quality against evaluations of the network and against seconds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from reverie import config, plots
from reverie.config import Plain
from reverie.evaluation.curve import Point, ticks
from reverie.evaluation.job import Job
from reverie.evaluation.numbers import Number
from reverie.evaluation.subject import Subject
from reverie.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reverie.evaluation.evaluate import Told

FILE = "distilled.json"
"""In the folder of the student that makes the fewest steps; a picture of the same name stands beside it."""
TEACHER, STUDENT = "teacher", "student"
PAIRS = 64
"""Samples of the same noise that are compared one by one, at the most."""


@dataclass(frozen=True)
class Line:
    """One model, sampled in so many steps.

    Attributes:
        who: `TEACHER` or `STUDENT`.
        sampler: by kind.
        tuned: whether the times were fitted to the model.
        steps: of the sampler.
        evaluations: of the network, a sample; guidance makes two of one.
        seconds: that a thousand samples took on this machine.
        number: the quality.
        alike: the correlation, over pixels or numbers and the first `PAIRS` samples, with what the teacher makes of the
            same noise in its most steps; None for those themselves, and where its sampler draws more noise.
    """

    who: str
    sampler: str
    tuned: bool
    steps: int
    evaluations: int
    seconds: float
    number: Number
    alike: float | None = None

    @property
    def name(self) -> str:
        """Model and sampler in a few words."""
        return f"{self.who}, {self.sampler}{', tuned' if self.tuned else ''}"


@dataclass(frozen=True)
class Beside:
    """All lines, by the same protocol but for model and sampler."""

    protocol: Mapping[str, Plain]
    lines: tuple[Line, ...]

    def of(self, who: str) -> tuple[Line, ...]:
        """Those of the teacher, or of students, by evaluations."""
        return tuple(sorted((line for line in self.lines if line.who == who), key=lambda line: line.evaluations))

    def better(self, a: Line, b: Line) -> bool:
        """Whether a is better than b."""
        return a.number.value > b.number.value if a.number.better == "higher" else a.number.value < b.number.value

    def told(self) -> list[str]:
        """For each student, a sentence on what the teacher does with as many evaluations, and where it draws level."""
        found = []
        for line in self.of(STUDENT):
            few = [other for other in self.of(TEACHER) if other.evaluations <= line.evaluations]
            best = None
            for other in few:
                best = other if best is None or self.better(other, best) else best
            level = next((other for other in self.of(TEACHER) if not self.better(line, other)), None)
            plural = "evaluation" if line.evaluations == 1 else "evaluations"
            said = f"{line.evaluations} {plural}: the student has {line.number.value:.4g}"
            if best is None:
                said += ", and the teacher makes no samples in so few"
            else:
                said += f", the teacher {best.number.value:.4g} by {best.sampler}{', tuned' if best.tuned else ''}"
                said += ", which is no more apart than their errors" if _within_errors(line, best) else ""
            said += (
                "; the teacher is never as good, up to "
                f"{max(other.evaluations for other in self.of(TEACHER))} evaluations"
                if level is None
                else f"; the teacher is as good from {level.evaluations} evaluations on"
            )
            found.append(said)
        return found

    def to_data(self) -> dict[str, Plain]:
        """Plain data, as it goes into a file."""
        return {"protocol": dict(self.protocol), "lines": [config.to_data(line) for line in self.lines]}


def beside(
    job: Job, teacher: Run, students: Mapping[int, Run], counts: Sequence[int], guidance: float, n: int, seed: int,
    told: Told,
) -> Beside:  # fmt: skip
    """Measure them all, by the first metric of the job.

    Args:
        job: metric, features and reference.
        teacher: sampled by its own sampler and settings, with the times that were tuned for it and without.
        students: by the number of steps that each makes.
        counts: evaluations of the teacher, guidance not counted.
        guidance: of the teacher, which is part of the students.
        n: samples.
        seed: of their noise: the same of all.
        told: told of the progress.

    Raises:
        ValueError: as `Job.curve`.
    """
    protocol, found = measured(job, teacher, TEACHER, sorted({*counts, *students}), guidance, n, seed, told)
    finest = max(found, key=lambda line: line.steps).steps
    same = teacher.sampler.deterministic  # else its picture is not decided by the first noise
    wanted = teacher.sample(PAIRS, seed=seed, sampling=teacher.settings(steps=finest, guidance=guidance))
    for run, steps in _by_run(students):
        scale = guidance if run.recipe.loss.scales else 1.0
        for line in measured(job, run, STUDENT, steps, scale, n, seed, told)[1]:
            made = run.sample(PAIRS, seed=seed, sampling=run.settings(steps=line.steps, guidance=scale))
            found.append(replace(line, alike=correlation(made, wanted) if same else None))
    return Beside({**protocol, "n": n, "seed": seed, "guidance": guidance}, tuple(found))


def correlation(a: Tensor, b: Tensor) -> float:
    """Of examples a and b (N, ...), over the numbers of each: its mean over examples, of which flat ones count 0."""
    x, y = (v.flatten(1).double() - v.flatten(1).double().mean(1, keepdim=True) for v in (a, b))
    return float(((x * y).sum(1) / (x.norm(dim=1) * y.norm(dim=1)).clamp_min(1e-12)).mean())


def measured(
    job: Job, run: Run, who: str, counts: Sequence[int], guidance: float, n: int, seed: int, told: Told
) -> tuple[dict[str, Plain], list[Line]]:
    """Lines of one model for so many evaluations each, guidance not counted; and the protocol less the samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samplers that cannot make so few
        subject = Subject(run, run.settings(guidance=guidance), n, seed=seed)
        curve = job.curve(subject, [run.sampler], counts, told)
    factor = 2 if who == TEACHER and guidance != 1 and run.vocabulary.parts else 1
    protocol = {key: value for key, value in curve.protocol.items() if key != "samples"}
    return protocol, [_line(who, point, factor) for point in curve.points]


def _within_errors(a: Line, b: Line) -> bool:
    """Whether there is no more between two than the error of the difference."""
    error = math.hypot(a.number.error or 0.0, b.number.error or 0.0)
    return abs(a.number.value - b.number.value) < error


def _by_run(students: Mapping[int, Run]) -> list[tuple[Run, list[int]]]:
    """Each run once, with its numbers of steps."""
    found: dict[str, tuple[Run, list[int]]] = {}
    for number, run in students.items():
        found.setdefault(str(run.path), (run, []))[1].append(number)
    return list(found.values())


def _line(who: str, point: Point, factor: int) -> Line:
    return Line(who, point.sampler, point.tuned, point.steps, factor * point.evaluations, point.seconds, point.number)


def picture(found: Beside, title: str) -> Figure:
    """Quality against evaluations and against seconds, of teacher and students."""
    figure, axes = plots.page(1, 2, 5.6, 3.9, top=0.5)
    number = found.lines[0].number
    names = list(dict.fromkeys(line.name for line in found.lines))
    panels = (("evaluations", "evaluations of the network a sample"), ("seconds", "seconds a thousand samples"))
    for panel, (cost, label) in zip(axes[0], panels, strict=True):
        for i, name in enumerate(names):
            mine = sorted((line for line in found.lines if line.name == name), key=lambda line: line.evaluations)
            places, values = [getattr(line, cost) for line in mine], [line.number.value for line in mine]
            colour, dash = plots.COLOURS[i % len(plots.COLOURS)], plots.DASHES[i % len(plots.DASHES)]
            panel.plot(
                places, values, color=colour, linestyle=dash, marker="o", markersize=4, linewidth=1.5, label=name
            )
        if number.floor is not None and number.floor > 0:
            panel.axhline(number.floor, color=plots.FAINT, linewidth=1, linestyle=":", label="real examples")
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:g}")
        if cost == "evaluations":
            ticks(panel, sorted({line.evaluations for line in found.lines}))
        if min(line.number.value for line in found.lines) > 0:
            panel.set_yscale("log")
            for set_formatter in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                set_formatter("{x:g}")
            panel.tick_params(axis="y", which="minor", labelsize=8)
        plots.lined(panel, "", label, f"{number.title}, {number.extractor}, {number.better} is better")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11, color=plots.INK)
    return figure
