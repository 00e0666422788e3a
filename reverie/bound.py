r"""The variational bound on the likelihood of a chain, term by term.

A chain visits times 1 >= t_N > ... > t_1 > 0 and ends at the data. In nats (Sohl-Dickstein et al.,
2015, eq. 14; Ho et al., 2020, eq. 5):

    -log p(x0) <= L_T + sum_i L_i + L_0
    L_T = KL(q(x_{t_N} | x0) || N(0, sigma_{t_N}^2))             the prior, from which sampling starts
    L_i = E KL(q(x_s | x_t, x0) || p(x_s | x_t)),  t = t_{i+1}, s = t_i
    L_0 = -E log p(x0 | x_{t_1})                                 the decoder

with p(x_s | x_t) the Gaussian of `reverie.prediction.posterior`. Any times will do: all T knots of a
chain, a stride of them, or a grid on a continuous process.

Letters in shapes: B batch, N times of the chain, ... one example.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from reverie.conditioning import Cond
from reverie.denoiser import Denoises
from reverie.grids import checked_times
from reverie.prediction import Bridge, Prediction
from reverie.schedules import Schedule
from reverie.tensors import Noise, host, right

BINS = 256
"""Of 8-bit pixels: x0 = -1, -1 + 2/255, ..., 1."""


@dataclass(frozen=True)
class BoundTerms:
    """The terms of the bound for each of B examples, in nats; their sum is the bound."""

    times: Tensor
    """(N,), t_N ... t_1."""
    prior: Tensor
    """(B,), L_T, like all terms in float64 on the host."""
    steps: Tensor
    """(B, N), the cost of the step that leaves each of `times`: L_{N-1} ... L_1, and last the decoder's L_0."""

    @property
    def total(self) -> Tensor:
        """(B,), an upper bound on -log p(x0), each of its terms seen at one draw of the noise."""
        return self.prior + self.steps.sum(1)


def step_cost(
    truth: Prediction, guess: Prediction, schedule: Schedule, s: Tensor, below: Tensor, *, fraction: float, bins: int
) -> Tensor:
    r"""The cost of the step from the level of `truth` to s, number by number (B, ...), in nats.

    Above s = 0 it is KL(q(x_s | x_t, x0) || p(x_s | x_t)), at s = 0 the decoder's -log p(x0 | x_t):
    a Gaussian, of which the mass of the bin that x0 lies in counts where there are bins (Ho et al.,
    2020, eq. 13), else the density.

    At s = 0 the lower bound of the variance is 0; that of the step before, from `below` to t, stands
    in. Where the variance is not learned and there are bins it stands alone, whatever the fraction
    (Nichol & Dhariwal, 2021, released code); without bins a chain of many steps needs the upper bound.

    Args:
        truth: x, with the x0 and eps that it was made of.
        guess: what the denoiser says of x.
        schedule: the process.
        s: (B,) or (), where the step goes.
        below: (B,) or (), for s = 0: where the step before would come from, a time above that of `truth`.
        fraction: of the variance, where it is not learned: 0 for the lower bound, 1 for the upper.
        bins: how many there are in [-1, 1], 0 for data that are not quantised.
    """
    x, t = truth.x, truth.level.t.flatten()
    t, s, below = (v.expand(len(x)) for v in (t, host(s), host(below)))
    apart = torch.zeros(len(x), dtype=torch.float64)
    at_t, at_s, at_below = (schedule.at(v, like=apart) for v in (t, s, below))
    last = s == 0
    bridge, before = Bridge.between(at_t, at_s), Bridge.between(at_below, at_t)
    first = torch.where(before.lower > 0, before.lower, bridge.upper)  # a chain of one step has no step before
    lower, upper = torch.where(last, first, bridge.lower).log(), bridge.upper.log()
    bridge = Bridge(*(right(v, x) for v in (bridge.x, bridge.x0, bridge.lower, bridge.upper)))
    lower, upper, ends = right(lower, x), right(upper, x), right(last.to(torch.float64), x).bool()
    share = torch.full((len(x),), fraction, dtype=torch.float64).masked_fill(last & (bins > 0), 0.0)
    chosen = right(share, x) if guess.var is None else guess.var
    log_var = chosen * upper + (1 - chosen) * lower
    distance = bridge.x0 * (truth.x0 - guess.x0)  # between the means; x_t's share is the same in both
    gap = torch.where(ends, 0.0, lower - log_var)
    kl = 0.5 * (torch.expm1(gap) - gap + distance**2 * (-log_var).exp())
    mean = torch.where(ends, bridge.mean(guess), truth.x0)
    decoder = -(log_mass(truth.x0, mean, log_var, bins) if bins else log_density(truth.x0, mean, log_var))
    return torch.where(ends, decoder, kl)


def log_density(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """log N(x; mean, exp(log_var)), number by number."""
    return -0.5 * ((x - mean) ** 2 * (-log_var).exp() + log_var + math.log(2 * math.pi))


def log_mass(x: Tensor, mean: Tensor, log_var: Tensor, bins: int = BINS) -> Tensor:
    """The log of the mass that N(mean, exp(log_var)) gives to the bin of x, number by number.

    The bins are centred at -1, -1 + 2 / (bins - 1), ..., 1; the outermost two reach to infinity (Ho
    et al., 2020, eq. 13).
    """
    half, centre = 1 / (bins - 1), ((x + 1) * ((bins - 1) / 2)).round() * (2 / (bins - 1)) - 1
    scale = (-0.5 * log_var).exp()
    low = torch.where(centre < -1 + half, -math.inf, (centre - half - mean) * scale)
    high = torch.where(centre > 1 - half, math.inf, (centre + half - mean) * scale)
    flipped = low + high > 0  # the upper tail is the lower one, seen from the other side
    low, high = torch.where(flipped, -high, low), torch.where(flipped, -low, high)
    return _log_difference(low, high)


def _log_difference(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)) for low < high with low + high <= 0; Phi is the normal distribution function.

    An open end is at -inf. Gradients are finite everywhere.
    """
    open_end = low.isinf()
    above = _log_ndtr(high)
    gap = _log_ndtr(torch.where(open_end, high - 1, low)) - above
    share = torch.log(-torch.expm1(gap.clamp_max(-1e-30)))
    return above + torch.where(open_end, torch.zeros_like(share), share)


def _log_ndtr(z: Tensor) -> Tensor:
    """log Phi(z), as torch's, with a gradient that keeps its digits far out: theirs is exp(-log Phi - z^2 / 2)."""
    below = z.clamp_max(0)
    tail = torch.log(torch.special.erfcx(below * -math.sqrt(0.5)) / 2) - 0.5 * below**2
    return torch.where(z < 0, tail, torch.special.log_ndtr(z.clamp_min(0)))


def variational_bound(
    f: Denoises,
    x0: Tensor,
    times: Tensor,
    cond: Cond | None = None,
    noise: Noise = torch.randn_like,
    *,
    fraction: float = 0.0,
    bins: int = 0,
) -> BoundTerms:
    """Every term of the bound for x0 (B, ...), at one draw of the noise each: N evaluations.

    Args:
        f: the denoiser.
        x0: data as the model sees them; multiples of 2 / (bins - 1) in [-1, 1] where there are bins.
        times: (N + 1,), decreasing, ending at 0: the grid that the chain is sampled on.
        cond: what the denoiser is told.
        noise: where x_t is drawn from.
        fraction: of the variance, where the denoiser has not learned it.
        bins: 256 for 8-bit pixels, 0 for data that are not quantised.

    Raises:
        ValueError: times that cannot be followed, or that do not end at 0.
    """
    times = checked_times(times)
    if float(times[-1]) != 0:
        raise ValueError(f"the bound is on the data, so its times end at 0; given times that end at {float(times[-1])}")
    costs = []
    with torch.no_grad():
        for i, (t, s) in enumerate(pairwise(times)):
            level, eps = f.schedule.at(t, like=x0), noise(x0)
            truth = Prediction.of(x0, eps, level)
            guess = f(truth.x, t, cond)
            below = times[max(i - 1, 0)]
            cost = step_cost(truth, guess, f.schedule, s, below, fraction=fraction, bins=bins)
            costs.append(cost.cpu().double().flatten(1).sum(1))
    return BoundTerms(times[:-1], prior_cost(f.schedule, x0, times[0]), torch.stack(costs, 1))


def prior_cost(schedule: Schedule, x0: Tensor, t: Tensor) -> Tensor:
    """(B,), KL(N(alpha x0, sigma^2) || N(0, sigma^2)) = |alpha x0 / sigma|^2 / 2 at t (), in nats."""
    x0 = x0.cpu().double()
    level = schedule.at(t, like=x0)
    return 0.5 * ((level.alpha / level.sigma) * x0).square().flatten(1).sum(1)
