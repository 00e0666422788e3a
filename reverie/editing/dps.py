"""Diffusion posterior sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.editing.around import AroundSolver
from reverie.editing.gradients import Foretold, traced
from reverie.editing.measurement import Measurement
from reverie.samplers import Ancestral, Sampler, State
from reverie.schedules import Level
from reverie.tensors import Noise, number, right


@dataclass(frozen=True, eq=False)
class DPS(AroundSolver):
    r"""The step of `solver`, then one against the gradient of the distance to the measurement.

        x_s <- x_s - zeta n_s n_t grad |y - H x0(x_t)|        n = sqrt(alpha^2 + sigma^2)

    Chung et al. (2023), algorithm 1, with the step zeta / |y - H x0| of its appendix on the square of the distance,
    the factor 2 taken into zeta as in the code released with it. The paper has n = 1; with n a `VE` model is given
    the same samples as the `Rescheduled` one of another kind.

    zeta is the length of a step, so it belongs to a number of steps: theirs, 0.3 to 1, to 1000. The result is no
    exact posterior, whatever zeta: see docs/editing.md.

    One evaluation a step, with its gradient, and what the solver asks for beyond its first.

    Raises:
        ValueError: a negative zeta.
    """

    measurement: Measurement
    solver: Sampler = field(default_factory=Ancestral)
    zeta: float = 1.0

    def __post_init__(self) -> None:
        if not self.zeta >= 0:
            raise ValueError(f"DPS needs a zeta of at least 0; given {self.zeta}")

    @property
    def deterministic(self) -> bool:
        return self.solver.deterministic

    def step(
        self, f: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Cond | None, noise: Noise, state: State
    ) -> tuple[Tensor, State]:
        known = traced(f, x, t, cond)
        x_s, state = self.solver.step(Foretold(f, known.q), x, t, s, cond, noise, state)
        residual = self.measurement.residual(known.q.x0)
        length = right(residual.flatten(1).norm(dim=1), residual)
        towards = residual / length.where(length > 0, 1.0)
        scale = number(self.zeta * _size(known.q.level) * _size(f.schedule.at(s, like=x)))
        return x_s + scale * known.pulled(self.measurement.operator.transpose(towards)), state


def _size(level: Level) -> Tensor:
    return (level.alpha**2 + level.sigma**2).sqrt()
