"""Models of steps of any length: the mean of the flow between two times.

Letters in shapes: B batch, ... the shape of one example.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.grids import Grid
from reverie.losses.tangents import along
from reverie.losses.teaching import Taught, landing
from reverie.losses.times import LogitNormalTimes, Times
from reverie.parameterizations import rates_at
from reverie.prediction import Prediction
from reverie.samplers import Jump, Sampler
from reverie.schedules import Schedule
from reverie.tensors import Noise, host, right


class Leaping(Taught):
    """What models that are told where their step ends share.

    All is said in u = eps - x0, the velocity of the path y = (1 - tau) x0 + tau eps, y = x / (alpha + sigma) and tau =
    sigma / (alpha + sigma): that of `Flow`, to which any process is brought by its sigma / alpha. The step of `Jump`
    from t to s with u is y_s = y_t - (tau_t - tau_s) u, so that u is to be the mean of the velocity from s to t.
    """

    times: Times
    share: float
    leaps = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise ValueError(
                f"loss.share is that of examples with a step of some length, in (0, 1]; given {self.share}"
            )

    def times_at(self, u: Tensor, schedule: Schedule) -> Tensor:
        return self.times(u, schedule)

    def check_sampling(self, sampler: Sampler, grid: Grid, schedule: Schedule, guidance: float = 1.0) -> None:
        super().check_sampling(sampler, grid, schedule, guidance)
        if not isinstance(sampler, Jump):
            raise ValueError(
                f"this model has learned whole steps and is told where they end, which {sampler.kind} does not tell; "
                f"use sampler.kind=jump, with any number of steps"
            )

    def ends(self, u: Tensor, schedule: Schedule, noise: Noise, x0: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) each: t and s <= t, both with the density of `times`; s = t in all but `share` of the examples.

        The step is of no length in the others, and u is then the velocity itself.
        """
        one = self.times(u, schedule)
        drawn = torch.special.ndtr(host(noise(x0).flatten(1)[:, 0]))
        other = self.times((drawn / self.share).clamp(max=1 - 1e-9), schedule)
        t, s = torch.maximum(one, other), torch.minimum(one, other)
        whole = drawn < self.share
        return torch.where(whole, t, one), torch.where(whole, s, one)


def velocity(q: Prediction) -> Tensor:
    """eps - x0, (B, ...)."""
    return q.eps - q.x0


@dataclass(frozen=True)
class MeanFlow(Leaping, kind="mean_flow"):
    r"""|u(x_t, t, s) - sg(v - (tau_t - tau_s) d u / d tau)|^2 / (|.|^2 + c), sg of the denominator.

    Geng et al. (2025), eq. 6 to 11 and 22: the derivative is along the path, whose velocity v is eps - x0 of the x0 and
    noise that x_t is made of, or what the teacher says. It is taken in forward mode. Where t = s this is flow matching.

    Args:
        taught: whether v is the teacher's.
        times: the distribution of t and of s, of which s is the lesser.
        share: of the examples with s < t.
        floor: c, beside the mean square of an example.

    Raises:
        ValueError: a share outside (0, 1], or floor <= 0; or as `Taught`.
    """

    taught: bool = True
    times: Times = field(default_factory=lambda: LogitNormalTimes(-0.4, 1.0))
    share: float = 0.5
    floor: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.floor > 0:
            raise ValueError(f"loss.floor must be greater than 0; given {self.floor}")

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        truth_noise = noise(x0)
        t, s = self.ends(u, f.schedule, noise, x0)
        truth = Prediction.of(x0, truth_noise, f.schedule.at(t, like=x0))
        leading, told = self.leading(f, truth, t, cond, noise)
        told = replace(told or Cond(), until=s.to(x0))
        error = velocity(f(truth.x, t, told)) - self.target(f, leading, t, s, told)
        square = error.square().flatten(1).mean(1)
        return square / (square.detach() + self.floor)

    @staticmethod
    def target(f: Denoises, leading: Prediction, t: Tensor, s: Tensor, cond: Cond) -> Tensor:
        """v - (tau_t - tau_s) d u / d tau, (B, ...), for what leads along the path."""
        a, b = leading.level, f.schedule.at(s, like=leading.x)
        rates = rates_at(f.schedule, a, leading.x)
        length = a.sigma / (a.alpha + a.sigma) - b.sigma / (b.alpha + b.sigma)
        speed = length * (a.alpha + a.sigma) ** 2 / (a.alpha * rates[1] - a.sigma * rates[0])
        _, change = along(f, velocity, leading.x, t, speed * leading.flow(rates), speed.flatten(), cond)
        return velocity(leading) - change


@dataclass(frozen=True)
class Shortcut(Leaping, kind="shortcut"):
    r"""|u(x_t, t, s) - target|^2, the target of a step being two of the model's own steps of half its length.

    Frans et al. (2024), eq. 4 and 5, with steps of any length: from t to m and from m to s by the model itself, tau_m
    half way, no gradient flowing, and the target is `landing` there. Where t = s the target is the velocity, of the x0
    and noise that x_t is made of, or the teacher's. No derivative is needed.

    Args:
        taught: whether the velocity is the teacher's.
        times: the distribution of t and of s, of which s is the lesser.
        share: of the examples with s < t.

    Raises:
        ValueError: a share outside (0, 1]; or as `Taught`.
    """

    taught: bool = False
    times: Times = field(default_factory=lambda: LogitNormalTimes(-0.4, 1.0))
    share: float = 0.5

    def __call__(
        self,
        f: Denoises,
        x0: Tensor,
        u: Tensor,
        cond: Cond | None = None,
        noise: Noise = torch.randn_like,
        memory: nn.Module | None = None,
    ) -> Tensor:
        truth_noise = noise(x0)
        t, s = self.ends(u, f.schedule, noise, x0)
        truth = Prediction.of(x0, truth_noise, f.schedule.at(t, like=x0))
        leading, told = self.leading(f, truth, t, cond, noise)
        with torch.no_grad():
            wanted = torch.where(right(s < t, like=x0).bool(), self.target(f, truth, t, s, told), velocity(leading))
        error = velocity(f(truth.x, t, replace(told or Cond(), until=s.to(x0)))) - wanted
        return error.square().flatten(1).mean(1)

    @staticmethod
    def target(f: Denoises, truth: Prediction, t: Tensor, s: Tensor, cond: Cond | None) -> Tensor:
        """u of `landing` where two steps of f come, (B, ...); of no meaning where s = t."""
        middle = halfway(f.schedule, t, s)
        x = truth.x
        for begin, end in ((t, middle), (middle, s)):
            x, _ = Jump().step(f, x, begin, end, cond, torch.zeros_like, None)
        return velocity(landing(truth.x, truth.level, x, f.schedule.at(s, like=x)))


def halfway(schedule: Schedule, t: Tensor, s: Tensor) -> Tensor:
    """The times (B,) whose tau is the mean of those of t and s."""

    def tau(t: Tensor) -> Tensor:
        return schedule.sigma(t) / (schedule.alpha(t) + schedule.sigma(t))

    middle = (tau(host(t)) + tau(host(s))) / 2
    return schedule.time(2 * ((1 - middle) / middle).log())
