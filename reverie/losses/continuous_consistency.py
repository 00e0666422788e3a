"""Consistency models in continuous time.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.losses.consistency import ConsistencyModel
from reverie.losses.tangents import along, angular
from reverie.losses.teaching import Steps
from reverie.losses.times import LogNormalTimes, Times
from reverie.parameterizations import rates_at
from reverie.prediction import Prediction
from reverie.tensors import Noise


@dataclass(frozen=True)
class ContinuousConsistency(ConsistencyModel, kind="continuous_consistency", aliases={"scm": {}}):
    r"""|F(x_t, t) - sg(F(x_t, t) + g / (|g| + c))|^2, with g what brings d x0 / d theta to 0 along a path.

        theta = atan(sigma / alpha),   F = (alpha eps - sigma x0) / sqrt(alpha^2 + sigma^2),   |.| the root mean square
        g = cos^2 (F' - F) + r (cos d x0 / d theta - cos^2 (F' - F))

    Lu & Song (2025), algorithm 1, for any process: F is v of the process brought to alpha^2 + sigma^2 = 1 (TrigFlow),
    and F' that of the teacher, or of the x0 and noise that x_t is made of where there is none. The derivative is along
    the path whose velocity F' is, in forward mode. r rises from 0 to 1 over the first `warmup` steps of training; with
    r = 0 it is the ordinary loss in v. Their adaptive weight is `Uncertain` around this.

    Args:
        taught: whether F' is the teacher's.
        times: the distribution of t.
        floor: c.
        warmup: steps of training.

    Raises:
        ValueError: unless floor > 0 and warmup >= 0; or as `Taught`.
    """

    taught: bool = True
    times: Times = field(default_factory=lambda: LogNormalTimes(-1.0, 1.4))
    floor: float = 0.1
    warmup: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.floor > 0 or self.warmup < 0:
            raise ValueError(
                f"loss.floor must be greater than 0 and loss.warmup at least 0; given floor={self.floor}, "
                f"warmup={self.warmup}"
            )

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        t = self.times(u, f.schedule)
        truth = Prediction.of(x0, noise(x0), f.schedule.at(t, like=x0))
        leading, told = self.leading(f, truth, t, cond, noise)
        own = f(truth.x, t, told)
        said = turned(own)  # with its gradient, before anything of the prediction is asked for without
        share = min(1.0, int(memory.done) / self.warmup) if isinstance(memory, Steps) and self.warmup else 1.0
        with torch.no_grad():
            g = self.change(f, own, leading, t, told, share)
            g = g / (g.flatten(1).square().mean(1).sqrt().reshape((-1,) + (1,) * (g.ndim - 1)) + self.floor)
        return (said - (said.detach() + g)).square().flatten(1).mean(1)

    @staticmethod
    def change(
        f: Denoises, own: Prediction, leading: Prediction, t: Tensor, cond: Cond | None, share: float = 1.0
    ) -> Tensor:
        """g (B, ...), with r = `share`, for what f and what leads say of the same x."""
        level = own.level
        rates = rates_at(f.schedule, level, own.x)
        cos = level.alpha / (level.alpha**2 + level.sigma**2).sqrt()
        plain = cos**2 * (turned(leading) - turned(own))
        if not share:
            return plain
        speed = cos / angular(level.alpha, level.sigma, rates)
        flow = leading.flow(rates)
        _, whole = along(f, lambda q: q.x0, own.x, t, speed * flow, speed.flatten(), cond)
        return plain + share * (whole - plain)


def turned(q: Prediction) -> Tensor:
    """(alpha eps - sigma x0) / sqrt(alpha^2 + sigma^2): d x / d theta on the unit circle (Salimans & Ho, 2022)."""
    return q.v / (q.level.alpha**2 + q.level.sigma**2).sqrt()
