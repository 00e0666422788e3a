"""Evaluations as training goes on: when they are due, what is written, which weights are kept, when it is enough."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from reverie.config import Plain
from reverie.denoiser import Denoiser
from reverie.runs import BEST, METRICS
from reverie.training import log
from reverie.training.best import KEY, Line, Past, evaluations, keep, newest
from reverie.training.evaluation import Evaluator


class Watch:
    """The evaluations of a run, those before it was resumed included; the same on every process.

    Args:
        evaluator: of the run.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator, self.run = evaluator, evaluator.run
        self._id = evaluator.id
        self._past, self._described = Past(lower=evaluator.lower), False
        self._others = False  # evaluations before, by another protocol
        self.said = ""  # what the last evaluation did to the weights kept before it

    def recall(self, step: int) -> None:
        """Take up the evaluations up to a step, from metrics.jsonl."""
        before = evaluations(self.run, step)
        self._past = newest(before, self._id, self.evaluator.lower)
        self._others = bool(before) and not self._past.lines
        lines = log.lines(self.run.path / METRICS)
        self._described = any(_id_of(line) == self._id and line["step"] <= step for line in lines)

    def due(self, step: int) -> bool:
        """Whether there is to be an evaluation after so many steps, and has been none."""
        every, steps = self.run.recipe.evaluate.every, self.run.recipe.train.steps
        asked = step > 0 and (step % every == 0 or step == steps)
        return asked and not any(line["step"] == step for line in self._past.lines)

    def missed(self, step: int) -> bool:
        """Whether an evaluation is due that a kill prevented; training that has ended is not judged by new settings."""
        return self.due(step) and not (self._others and step >= self.run.recipe.train.steps)

    def take(self, f: Denoiser, step: int) -> Line:
        """Evaluate f, the average after so many steps; the main process writes the line, and the weights if best.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        found, evaluator = self.evaluator.measure(f), self.evaluator
        best, self.said = self._past.improves(found.value), ""
        told = {"metric": evaluator.metric.name, "extractor": evaluator.extractor, **found.line}
        line: Line = {**told, "best": best, "protocol": self._id, "step": step}
        self._past = replace(self._past, lines=(*self._past.lines, line))
        if evaluator.team.main:
            path = self.run.path / METRICS
            if not self._described:
                log.append(path, {"step": step, "protocol": {"id": self._id, **evaluator.protocol}})
            log.append(path, {"step": step, KEY: {k: v for k, v in line.items() if k != "step"}})
            if best:
                self.said = keep(self.run, f.net.state_dict(), line)
        self._described = True
        return line

    @property
    def over(self) -> str:
        """Why training should end, in words; empty where it should go on."""
        patience, past = self.run.recipe.evaluate.patience, self._past
        if not patience or past.since < patience:
            return ""
        times = "once" if past.since == 1 else f"for {past.since} evaluations"
        name, best = self.evaluator.metric.name, past.best
        if best is None:
            return f"{name} could not be measured {times}"
        return f"{name} has not improved {times}; best {best['value']:.4g} at step {best['step']}, kept in {BEST}"


def _id_of(line: Mapping[str, Plain]) -> Plain:
    told = line.get("protocol")
    return told.get("id") if isinstance(told, dict) else None
