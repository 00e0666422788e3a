"""Losses that are bounds on the likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from torch import Tensor

from reverie.bound import BINS, step_cost
from reverie.losses.balance import check_range
from reverie.losses.base import Pointwise
from reverie.losses.denoising import Denoising, natural_notation
from reverie.losses.times import KnotTimes, Times, knots_of
from reverie.losses.weights import MinSNR, Notation, Unit, Weight
from reverie.parameterizations import Parameterization
from reverie.prediction import Prediction
from reverie.schedules import Schedule


class _OnChain(Pointwise):
    """A loss on the T = `total` steps of a chain, whose decoder counts `bins`."""

    total: int | None
    bins: int

    @property
    def quantised(self) -> bool:  # type: ignore[override]
        """Whether there are bins."""
        return self.bins > 0

    @property
    def positive(self) -> bool:  # type: ignore[override]
        """Whether there are bins: a mass is at most 1, a density is not."""
        return self.bins > 0

    @property
    def times(self) -> Times:  # type: ignore[override]  # follows from `total`
        """The knots of the chain."""
        return KnotTimes(self.total)


@dataclass(frozen=True)
class VariationalBound(_OnChain, kind="bound"):
    """T times one term of the variational bound, in bits per dimension (Nichol & Dhariwal, 2021, eq. 4 to 7).

    Its mean over the T = `total` steps of the chain is the bound without L_T, which learns nothing;
    see `reverie.bound`. With a learned variance its gradient is very uneven: see `Resampled`.

    Args:
        total: T; the chain's own number of steps unless given, 1,000 on a continuous process.
        bins: 256 for 8-bit pixels, 0 for data that are not quantised.
        fraction: of the variance where it is not learned, 0 for its lower bound, 1 for its upper.

    Raises:
        ValueError: bins below 0 or 1, or a fraction outside [0, 1].
    """

    total: int | None = None
    bins: int = BINS
    fraction: float = 0.0

    def __post_init__(self) -> None:
        if self.bins < 0 or self.bins == 1:
            raise ValueError(f"the decoder needs 2 bins or more, such as 256, or 0 for none; given {self.bins}")
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"the variance needs a fraction in [0, 1]; given {self.fraction}")

    def compare(self, truth: Prediction, guess: Prediction, schedule: Schedule) -> Tensor:
        total = knots_of(schedule, self.total)
        knot = (truth.level.t.flatten() * total).round()
        s, below = (knot - 1) / total, ((knot + 1) / total).clamp_max(1)
        cost = step_cost(truth, guess, schedule, s, below, fraction=self.fraction, bins=self.bins)
        return cost.flatten(1).mean(1) * (total / math.log(2))

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """Refuse another number of steps than the chain's, or an output of too many sizes.

        Raises:
            ValueError: with what would fit.
        """
        knots_of(schedule, self.total, "loss.total")
        check_range(self.times, schedule, parameterization)


@dataclass(frozen=True)
class Hybrid(_OnChain, kind="hybrid"):
    """A denoising loss for the mean, and `scale` times the variational bound for the variance alone.

    L_simple + 0.001 L_vlb, the mean held fixed in the second (Nichol & Dhariwal, 2021, section 3.1).

    Args:
        notation: of the denoising loss.
        weight: of the denoising loss.
        total: T; the chain's own number of steps unless given, 1,000 on a continuous process.
        bins: 256 for 8-bit pixels, 0 for data that are not quantised.
        scale: of the bound, in bits per dimension.

    Raises:
        ValueError: unless scale > 0; or as `VariationalBound`.
    """

    notation: Notation = "eps"
    weight: Weight = field(default_factory=Unit)
    total: int | None = None
    bins: int = BINS
    scale: float = 0.001

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"Hybrid needs a scale > 0; given {self.scale}. Without a bound use loss.kind=denoising")
        self._bound.__post_init__()

    @property
    def _bound(self) -> VariationalBound:
        return VariationalBound(self.total, self.bins)

    @property
    def _denoising(self) -> Denoising:
        return Denoising(self.notation, self.times, self.weight)

    def compare(self, truth: Prediction, guess: Prediction, schedule: Schedule) -> Tensor:
        held = replace(guess, x0=guess.x0.detach(), eps=guess.eps.detach())
        bound = self._bound.compare(truth, held, schedule)
        return self._denoising.compare(truth, guess, schedule) + self.scale * bound

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """Refuse a network that puts out no variance, or what the two losses would refuse.

        Raises:
            ValueError: with what would fit.
        """
        mean = getattr(parameterization, "mean", None)
        if not isinstance(mean, Parameterization):
            raise ValueError(
                f"Hybrid trains a variance, and {type(parameterization).__name__} puts out none; use "
                f"parameterization.kind=learned_variance, or loss.kind=denoising"
            )
        self._bound.check(schedule, parameterization)
        denoising, natural = self._denoising, natural_notation(mean)
        remedies = {
            f"loss.notation={natural}": replace(denoising, notation=natural),
            "loss.weight.kind=min_snr": replace(denoising, weight=MinSNR()),
        }
        denoising.check_balance(schedule, mean, remedies)
