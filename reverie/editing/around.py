"""A sampler around another one, whose state it carries."""

from __future__ import annotations

from torch import Tensor

from reverie.samplers.base import Sampler, State
from reverie.schedules import Schedule


class AroundSolver(Sampler):
    """Begins and checks as its field `solver` does."""

    solver: Sampler

    def init(self) -> State:
        return self.solver.init()

    def start(self, schedule: Schedule, times: Tensor) -> State:
        return self.solver.start(schedule, times)

    def check(self, schedule: Schedule, times: Tensor) -> None:
        self.solver.check(schedule, times)
