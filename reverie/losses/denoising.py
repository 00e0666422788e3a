"""The weighted denoising loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.losses.balance import balanced, check_range, quantiles
from reverie.losses.base import Pointwise
from reverie.losses.pairings import Independent, Pairing
from reverie.losses.penalties import Penalty, Squared
from reverie.losses.times import LogitNormalTimes, Times, UniformTimes
from reverie.losses.weights import MinSNR, Notation, Unit, Weight
from reverie.parameterizations import Parameterization, rates_at
from reverie.prediction import Prediction, Rates
from reverie.schedules import Schedule


@dataclass(frozen=True)
class Denoising(Pointwise, kind="denoising"):
    """E w(level) penalty(guess - truth) in one notation, averaged over the numbers of an example.

    Ho et al. (2020), eq. 14, is `Denoising()` on a chain with `KnotTimes`; denoising score matching
    (Vincent, 2011), flow matching and EDM differ in notation, times and weight alone.

    Args:
        notation: in which the error is taken: x0, eps, v, score or flow.
        times: the distribution of t.
        weight: the weight of a level.
        penalty: how an error counts by its size; its square unless said.
        pairing: which noise each example is mixed with; as it was drawn unless said.
    """

    notation: Notation = "eps"
    times: Times = field(default_factory=UniformTimes)
    weight: Weight = field(default_factory=Unit)
    penalty: Penalty = field(default_factory=Squared)
    pairing: Pairing = field(default_factory=Independent)

    def paired(self, x0: Tensor, eps: Tensor, cond: Cond | None) -> Tensor:
        return self.pairing(x0, eps, cond)

    def compare(self, truth: Prediction, guess: Prediction, schedule: Schedule) -> Tensor:
        rates = rates_at(schedule, truth.level, truth.x)
        error = read(guess, self.notation, rates) - read(truth, self.notation, rates)
        return (self.weight(truth.level, self.notation, rates) * self.penalty(error)).flatten(1).mean(1)

    def check(self, schedule: Schedule, parameterization: Parameterization) -> None:
        """Refuse a loss that a few noise levels outweigh, so that nothing else would be learned.

        What counts is the weight of the error of the network's own output, W(t). The share of the
        examples that take part is (E W)^2 / E W^2.

        Raises:
            ValueError: W is not finite, or that share is below 1 in 2,000; or the parameterization
                has outputs that this loss does not train, or of too many sizes (`check_range`).
        """
        if parameterization.outputs > 1:
            raise ValueError(
                f"{type(parameterization).__name__} puts out a variance, which a denoising loss does not train; use "
                f"loss.kind=hybrid or loss.kind=bound, or a parameterization without it"
            )
        natural = natural_notation(parameterization)
        remedies = {
            f"loss.notation={natural}": replace(self, notation=natural),
            "loss.weight.kind=min_snr": replace(self, weight=MinSNR()),
            "loss.times.kind=logit_normal": replace(self, times=LogitNormalTimes()),
        }
        self.check_balance(schedule, parameterization, remedies)

    def check_balance(
        self, schedule: Schedule, parameterization: Parameterization, remedies: Mapping[str, Denoising]
    ) -> None:
        """As `check`, for outputs that are trained; the message names those of the remedies that are one.

        Raises:
            ValueError: W is not finite, or the share is below 1 in 2,000; or as `check_range`.
        """
        check_range(self.times, schedule, parameterization)
        t, weight = self._outweighing(schedule, parameterization)
        if balanced(weight):
            return
        heaviest = int(torch.nan_to_num(weight, nan=torch.inf).argmax())
        times = float(weight[heaviest] / weight.nanmedian())
        helping = [say for say, loss in remedies.items() if balanced(loss._outweighing(schedule, parameterization)[1])]
        raise ValueError(
            f"a loss in {self.notation} with weight {self.weight.kind} and a network that puts out "
            f"{parameterization.kind} counts t = {float(t[heaviest]):.3g} {times:.2g} times as much as a typical time, "
            f"so nothing else would be learned; use "
            f"{' or '.join(helping) or 'parameterization.kind=v with loss.notation=v'}"
        )

    def _outweighing(self, schedule: Schedule, parameterization: Parameterization) -> tuple[Tensor, Tensor]:
        """Quantiles of t (N,) and W (N,): decoding is linear, so W is the weight times the squared effect of a 1."""
        t = quantiles(self.times, schedule)
        x = torch.zeros(len(t), 1, dtype=torch.float64)
        level = schedule.at(t, like=x)
        rates = rates_at(schedule, level, x)
        one, none = (parameterization.decode(torch.full_like(x, v), x, level, schedule) for v in (1.0, 0.0))
        effect = read(one, self.notation, rates) - read(none, self.notation, rates)
        return t, (self.weight(level, self.notation, rates) * effect**2).flatten()


def natural_notation(parameterization: Parameterization) -> Notation:
    """The notation in which errors of a network's output are of the same size at all levels, or nearly."""
    known: dict[str, Notation] = {"x0": "x0", "v": "v", "velocity": "flow", "edm": "v"}
    return known.get(parameterization.kind, "eps")


def read(q: Prediction, notation: Notation, rates: Rates) -> Tensor:
    """What a prediction says, in a notation."""
    if notation == "flow":
        return q.flow(rates)
    value: Tensor = getattr(q, notation)
    return value
