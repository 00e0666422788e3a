"""A metric whose value and error are known, for tests of evaluations."""

from dataclasses import dataclass

from reverie.evaluation.metrics import Metric, Unfit


@dataclass(frozen=True)
class Mean(Metric):
    """The mean of the first feature of the samples: its error is known."""

    kind = "mean"
    least: int = 1

    def check(self, made, real):
        if len(made) < self.least:
            raise Unfit(f"needs {self.least}")

    def __call__(self, made, real):
        return float(made.values[:, 0].mean())
