"""Parameterizations: which quantity the network puts out, and how its input is scaled.

`decode` turns the network's output into a `Prediction`, exactly; `scale` is the factor on x before
the network sees it. Both know nothing of the network.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from reverie.config import Part
from reverie.prediction import Prediction, Rates
from reverie.schedules import Level, Schedule
from reverie.tensors import Number, host, number, right


class Parameterization(Part, abc.ABC, family="parameterization"):
    """Reads a network's output."""

    divides_by_alpha: ClassVar[bool] = False
    """Whether `decode` is undefined where alpha = 0."""
    outputs: ClassVar[int] = 1
    """How many numbers the network puts out for each of x, stacked along the axis after the batch."""

    def scale(self, level: Level) -> Number:
        """The factor on x before the network."""
        return 1.0

    @abc.abstractmethod
    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        """The prediction that the network's output `out` stands for: (B, outputs C, ...) for x (B, C, ...)."""

    def check(self, schedule: Schedule) -> None:
        """Refuse a schedule on which `decode` would divide by zero.

        Raises:
            ValueError: alpha(1) = 0 and this parameterization divides by alpha.
        """
        if self.divides_by_alpha and schedule.ends_in_noise():
            raise ValueError(
                f"{type(self).__name__} divides by alpha, and {type(schedule).__name__} has alpha(1) = 0: at t = 1 "
                f"its output says nothing of the data. Use parameterization.kind=v, velocity, x0 or edm with this "
                f"schedule (and such a loss.notation), or one with alpha(1) > 0, such as schedule.kind=linear_vp"
            )


def rates_at(schedule: Schedule, level: Level, like: Tensor) -> Rates:
    """The schedule's rates at a level, broadcasting against `like`."""
    if level.t.ndim == 0:
        return schedule.shared_rates(level.t)
    da, db = schedule.rates(host(level.t.flatten()))
    return right(da, like), right(db, like)


@dataclass(frozen=True)
class Eps(Parameterization, kind="eps"):
    """The network puts out the noise (Ho et al., 2020)."""

    divides_by_alpha: ClassVar[bool] = True

    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        return Prediction.from_eps(out, x, level)


@dataclass(frozen=True)
class X0(Parameterization, kind="x0"):
    """The network puts out the data."""

    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        return Prediction.from_x0(out, x, level)


@dataclass(frozen=True)
class V(Parameterization, kind="v"):
    """The network puts out v = alpha eps - sigma x0 (Salimans & Ho, 2022)."""

    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        return Prediction.from_v(out, x, level)


@dataclass(frozen=True)
class Score(Parameterization, kind="score"):
    """The network puts out grad log p_t(x) (Song & Ermon, 2019), or sigma times it.

    `per_sigma` divides what comes out of the network by sigma, so that it is of the same size at
    all levels (Song & Ermon, 2020, technique 3; Song et al., 2021, released code).
    """

    divides_by_alpha: ClassVar[bool] = True
    per_sigma: bool = False

    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        if self.per_sigma:
            return Prediction.from_eps(-out, x, level)
        return Prediction.from_score(out, x, level)


@dataclass(frozen=True)
class Velocity(Parameterization, kind="velocity"):
    """The network puts out the velocity alpha' x0 + sigma' eps of the path (Lipman et al., 2023)."""

    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        return Prediction.from_flow(out, x, level, rates_at(schedule, level, x))


@dataclass(frozen=True)
class EDM(Parameterization, kind="edm"):
    r"""Karras et al. (2022), table 1, for any schedule.

    With k = 1 / sqrt(alpha^2 sigma_data^2 + sigma^2) and F the network's output,

        input  k x
        x0   = alpha sigma_data^2 k^2 x + sigma sigma_data k F
        eps  = sigma k^2 x - alpha sigma_data k F

    which solves x = alpha x0 + sigma eps without dividing by either. On alpha = 1 these are the
    published c_in, c_skip and c_out.

    Raises:
        ValueError: unless sigma_data > 0.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not self.sigma_data > 0:
            raise ValueError(f"EDM needs sigma_data > 0, the standard deviation of the data; given {self.sigma_data}")

    def scale(self, level: Level) -> Number:
        scale: Number = ((number(level.alpha) * self.sigma_data) ** 2 + number(level.sigma) ** 2) ** -0.5
        return scale

    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        k, alpha, sigma = self.scale(level), number(level.alpha), number(level.sigma)
        x0 = alpha * self.sigma_data**2 * k**2, sigma * self.sigma_data * k
        eps = sigma * k**2, -(alpha * self.sigma_data * k)
        return Prediction.from_linear(out, x, level, x0, eps)


@dataclass(frozen=True)
class LearnedVariance(Parameterization, kind="learned_variance"):
    """Another parameterization and, in the second half of the output, the variance of the reverse step.

    With v the second half, log variance = f log upper + (1 - f) log lower and f = (v + 1) / 2, the
    bounds those of `reverie.prediction.posterior` (Nichol & Dhariwal, 2021, eq. 15). As there, f is
    not held inside [0, 1].
    """

    mean: Parameterization = field(default_factory=Eps)
    """What the first half is."""
    outputs: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.mean.outputs != 1:
            raise ValueError(f"LearnedVariance needs a mean without a variance of its own; given {self.mean.kind}")

    def check(self, schedule: Schedule) -> None:
        self.mean.check(schedule)

    def scale(self, level: Level) -> Number:
        return self.mean.scale(level)

    def decode(self, out: Tensor, x: Tensor, level: Level, schedule: Schedule) -> Prediction:
        mean, variance = out.chunk(2, dim=1)
        return self.mean.decode(mean, x, level, schedule).with_var((variance + 1) / 2)
