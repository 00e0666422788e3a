"""A multistep method with weights fitted to a denoiser.

Letters in shapes: N steps, k values remembered, ... the shape of the times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from reverie.samplers.adams import Adams
from reverie.samplers.base import Sampler
from reverie.samplers.multistep import Multistep, Planned, Rows, Weights, levels
from reverie.schedules import Level, Schedule
from reverie.tensors import host


@dataclass(frozen=True)
class Weighed(Multistep, kind="weighed"):
    r"""x_s = w x + sum_j w_j m_j along the times the weights belong to: a row (w, w_0, w_1, ...) a step.

    What is remembered, m, is that of `method`. A method weighs the values as if they lay on a
    polynomial; those of a trained network do not, least of all in long steps. Its weights can instead
    be chosen so that the steps end where the exact solution does: see `reverie.weighing`, and Shaul et
    al. (2024) on solvers of this form. They belong to one denoiser and one row of times, and tell
    nothing about any other. Without weights this is the method itself.

    Args:
        method: a multistep method without noise.
        angles: atan(sigma / alpha) at the N + 1 times, pi / 2 at the most and 0 at the end.
        weights: N rows, each of at least two numbers.

    Raises:
        ValueError: a method that is no multistep method, or rows that do not fit the angles.
    """

    method: Sampler = field(default_factory=Adams)
    angles: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.method, Multistep) or not self.method.deterministic or isinstance(self.method, Weighed):
            raise ValueError(f"Weighed needs a multistep method without noise, such as Adams(); given {self.method}")
        if len(self.angles) != len(self.weights) + bool(self.angles):
            raise ValueError(
                f"Weighed needs one row of weights a step, one fewer than angles; given {len(self.angles)} angles and "
                f"{len(self.weights)} rows"
            )
        falling = all(a > b for a, b in zip(self.angles[:-1], self.angles[1:], strict=True))
        if not falling or any(not 0 <= a <= math.pi / 2 + 1e-9 for a in self.angles):
            raise ValueError(f"Weighed needs angles that fall from at most pi / 2 to 0; given {list(self.angles)}")
        check_rows(self.weights)

    @property
    def order(self) -> int:  # type: ignore[override]
        """That of the method."""
        return self._method.order

    @property
    def _method(self) -> Multistep:
        assert isinstance(self.method, Multistep)
        return self.method

    @property
    def deterministic(self) -> bool:
        return True

    @property
    def from_noise(self) -> bool:  # type: ignore[override]
        """As the method."""
        return self._method.from_noise

    @property
    def memory(self) -> int:
        return max((len(row) - 1 for row in self.weights), default=self._method.memory)

    def value(self, level: Level) -> tuple[Tensor, Tensor]:
        return self._method.value(level)

    def predictor(self, nodes: Level, s: Level) -> Weights:
        return self._method.predictor(nodes, s)

    def corrector(self, nodes: Level) -> Weights | None:
        return self._method.corrector(nodes)

    def check(self, schedule: Schedule, times: Tensor) -> None:
        self._method.check(schedule, times)
        if not self.weights:
            return
        found = angles(schedule, host(times))
        if len(found) != len(self.angles) or not torch.allclose(found, host(self.angles), rtol=0, atol=1e-6):
            raise ValueError(
                f"these weights were fitted for {len(self.weights)} steps along times of their own, and the grid has "
                f"{len(found) - 1} steps, or others: take the grid they were fitted with, or sampler.kind="
                f"{self.method.kind}"
            )

    def plan(self, schedule: Schedule, times: Tensor, cross: bool = True) -> tuple[Planned | None, ...]:
        if not self.weights:
            return self._method.plan(schedule, times, cross)
        a, b = self.value(levels(schedule, times[:-1]))
        rows = zip(a.tolist(), b.tolist(), self.weights, strict=True)
        return tuple(Planned((a_i, b_i), row[0], row[1:], None) for a_i, b_i, row in rows)

    def rows(self, schedule: Schedule, nodes: Tensor, s: Tensor, began: Tensor) -> Rows:
        """The rows whose angles are those of the first nodes."""
        if not self.weights:
            return self._method.rows(schedule, nodes, s, began)
        away = (angles(schedule, nodes[0])[:, None] - host(self.angles[:-1])).abs()
        if bool((away.amin(1) > 1e-6).any()):
            raise ValueError(f"there are no weights for a step from t = {nodes[0].tolist()[:4]}")
        x, m = torch.zeros_like(s), torch.zeros_like(nodes)
        for i, row in enumerate(away.argmin(1).tolist()):
            w, *ms = self.weights[row]
            x[i], m[: len(ms), i] = w, host(ms)[: len(m)]
        return Rows(x, m, *self.value(levels(schedule, nodes)))


def check_rows(weights: Sequence[Sequence[float]]) -> None:
    """Refuse weights that no step can be taken with.

    Raises:
        ValueError: a row of fewer than two numbers, or one that is not finite.
    """
    for i, row in enumerate(weights):
        if len(row) < 2 or not all(math.isfinite(w) for w in row):
            raise ValueError(
                f"weights need rows of at least two finite numbers, that of x and those of the values; row {i} is "
                f"{list(row)}"
            )


def angles(schedule: Schedule, times: Tensor) -> Tensor:
    """atan(sigma / alpha) at times (...), pi / 2 where alpha = 0."""
    return torch.atan2(schedule.sigma(times), schedule.alpha(times))
