"""The process: schedules, grids and notations, in float64 on the host.

Letters in shapes: B batch, ... one example.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from reverie.config import registered
from reverie.doctor.finding import Check, Undefined, alone, defaults, over, pairs, unmade
from reverie.grids import Grid, checked_times
from reverie.nets import NetConfig
from reverie.parameterizations import Parameterization, rates_at
from reverie.prediction import Prediction
from reverie.samplers import Sampler
from reverie.schedules import Betas, GivenBetas, Level, Schedule, Table
from reverie.tensors import generator, host

GROUP, NOTATIONS = "schedules", "notations"
PARTS = "it is left out of all that follows"
FINE = torch.linspace(0, 1, 4001, dtype=torch.float64)
TIMES = (0.003, 0.2, 0.6, 0.95)


def schedules() -> dict[str, Schedule]:
    """Every registered schedule, and chains of two other kinds."""
    ends_in_noise = Table(GivenBetas((0.1, 0.2, 0.5, 1.0)))
    return {**defaults(Schedule), "cosine table": Table.cosine(), "table that ends in noise": ends_in_noise}


def checks() -> Iterator[Check]:
    """Of every schedule, grid, rule of betas, notation and parameterization."""
    families = (Schedule, Betas, Grid, Parameterization, Sampler, NetConfig)
    parts = {f"{family.family} {kind}": (cls,) for family in families for kind, cls in registered(family).items()}
    yield Check(GROUP, "every part can be made", "none refuses its defaults", over(unmade, parts, 0.0, "parts"), PARTS)
    known, all_of = schedules(), alone(schedules())
    advice = "no sampler or loss can be right on this schedule"
    for name, expected, measure, limit in (
        ("alpha(0) = 1 and sigma(0) = 0", "exactly", ends, 0.0),
        ("log-SNR falls, alpha falls, sigma > 0", "at 4,001 times", disorder, 0.0),
        ("log-SNR = 2 log(alpha / sigma)", "to 1e-9", log_snr_gap, 1e-9),
        ("time(log-SNR(t)) = t", "to 1e-9", inverse_gap, 1e-9),
        ("rates add up to alpha and sigma", "to 0.5 % of their range", rates_gap, 5e-3),
    ):
        yield Check(GROUP, name, expected, over(measure, all_of, limit, "schedules"), advice)
    yield Check(GROUP, "betas lie in (0, 1)", "all", over(outside, alone(defaults(Betas)), 0.0, "rules"), advice)
    name, advice = "grids fall from noise to exactly 0", "no sampler can follow this grid"
    yield Check(GROUP, name, "all", over(grid_faults, pairs(defaults(Grid), known), 0.0, "pairs"), advice)
    advice = "what a network says would be read as something else"
    name = "x0, eps, v, score, flow agree"
    yield Check(NOTATIONS, name, "to 1e-9", over(notation_gap, all_of, 1e-9, "schedules"), advice)
    name, trips = "a network's output decodes to its x0 and eps", pairs(defaults(Parameterization), known)
    yield Check(NOTATIONS, name, "to 1e-9", over(round_trip_gap, trips, 1e-9, "pairs"), advice)


# ------------------------------------------------------------------------------------ schedules


def ends(schedule: Schedule) -> float:
    """How far (alpha, sigma) at t = 0 is from (1, 0)."""
    return abs(float(schedule.alpha(host(0.0))) - 1) + abs(float(schedule.sigma(host(0.0))))


def disorder(schedule: Schedule) -> float:
    """Times at which the log-SNR does not fall, alpha rises or is negative, or sigma is not positive."""
    alpha, sigma = schedule.alpha(FINE), schedule.sigma(FINE)
    falls = (schedule.log_snr(FINE).diff() < 0) & ((alpha / sigma).diff() < 0)
    wrong = ~(falls & (alpha.diff() <= 1e-15) & (alpha[1:] >= 0) & (sigma[1:] > 0))
    return float(wrong.sum())


def log_snr_gap(schedule: Schedule) -> float:
    """|log_snr - 2 log(alpha / sigma)|, at the most, relative to 1 or the larger; alpha = 0 aside."""
    t = FINE[1:]
    own, ratio = schedule.log_snr(t), 2 * (schedule.alpha(t) / schedule.sigma(t)).log()
    return float(((own - ratio).abs() / ratio.abs().clamp_min(1))[ratio.isfinite()].max())


def inverse_gap(schedule: Schedule) -> float:
    """|time(log_snr(t)) - t|, at the most."""
    t = FINE[1:]
    return float((schedule.time(schedule.log_snr(t)) - t).abs().max())


def rates_gap(schedule: Schedule) -> float:
    """The largest distance between alpha, sigma and the integrals of their rates, of their range.

    The midpoint rule on 4,000 intervals from t = 0.02 on; a jump or a wrong slope stays in the sum.
    """
    t = torch.linspace(0.02, 1, 4001, dtype=torch.float64)
    rates = schedule.rates((t[1:] + t[:-1]) / 2)
    gaps = []
    for rate, value in zip(rates, (schedule.alpha(t), schedule.sigma(t)), strict=True):
        summed = (rate * t.diff()).cumsum(0)
        spread = float(value.max() - value.min())
        gaps.append(float((value[1:] - value[0] - summed).abs().max()) / (spread or 1))
    return max(gaps)


def outside(betas: Betas) -> float:
    """How many betas are not in (0, 1), the last of which may be 1."""
    values = betas.values()
    return float((~((values > 0) & (values <= 1))).sum() + (values[:-1] == 1).sum())


def grid_faults(grid: Grid, schedule: Schedule) -> float:
    """1 where the times do not end at exactly 0."""
    try:
        times = grid(schedule)
    except ValueError:
        raise Undefined from None
    return float(checked_times(times)[-1] != 0)


# ------------------------------------------------------------------------------------ notations


def made(schedule: Schedule, t: float) -> tuple[Tensor, Level, Tensor, Tensor]:
    """x (4, 2, 3) with the level, x0 and eps that it is made of."""
    random = generator(7)
    x0, eps = (torch.randn(4, 2, 3, dtype=torch.float64, generator=random) for _ in range(2))
    level = schedule.at(host(t), like=x0)
    return level.alpha * x0 + level.sigma * eps, level, x0, eps


def off(q: Prediction, x0: Tensor, eps: Tensor) -> float:
    """How far a prediction is from x0 and eps, in their shares of x: 0 where it is exact."""
    a, b = float(q.level.alpha), float(q.level.sigma)
    gap = a * (q.x0 - x0).abs() + b * (q.eps - eps).abs() + (a * q.x0 + b * q.eps - q.x).abs()
    return float(gap.max()) / (a + b)


def notation_gap(schedule: Schedule) -> float:
    """Every notation of a prediction, read back."""
    gaps = []
    for t in TIMES:
        x, level, x0, eps = made(schedule, t)
        q, rates = Prediction(x, level, x0, eps), rates_at(schedule, level, x)
        flow = rates[0] * x0 + rates[1] * eps
        read = [
            Prediction.from_x0(x0, x, level),
            Prediction.from_eps(eps, x, level),
            Prediction.from_v(level.alpha * eps - level.sigma * x0, x, level),
            Prediction.from_score(-eps / level.sigma, x, level),
            Prediction.from_flow(flow, x, level, rates),
            Prediction.from_v(q.v, x, level),
            Prediction.from_score(q.score, x, level),
            Prediction.from_flow(q.flow(rates), x, level, rates),
        ]
        gaps += [off(r, x0, eps) for r in read]
    return max(gaps)


def round_trip_gap(parameterization: Parameterization, schedule: Schedule) -> float:
    """The output that stands for x0, found from two outputs since x0 is affine in it, decoded again.

    Where the output has a name (`eps`, `x0`, `v`, `score`, `velocity`), it must be that quantity.
    """
    try:
        parameterization.check(schedule)
    except ValueError:
        raise Undefined from None
    gaps = []
    for t in TIMES:
        x, level, x0, eps = made(schedule, t)

        def decoded(out: Tensor, x: Tensor = x, level: Level = level) -> Prediction:
            stacked = torch.cat([out] * parameterization.outputs, 1)
            return parameterization.decode(stacked, x, level, schedule)

        zero, one = decoded(torch.zeros_like(x)).x0, decoded(torch.ones_like(x)).x0
        out = (x0 - zero) / (one - zero)
        gaps.append(off(decoded(out), x0, eps))
        rates = rates_at(schedule, level, x)
        truth = Prediction(x, level, x0, eps)
        named = {"eps": eps, "x0": x0, "v": truth.v, "score": truth.score, "velocity": truth.flow(rates)}
        target = named.get(parameterization.kind)
        if target is not None and not getattr(parameterization, "per_sigma", False):
            gaps.append(off(decoded(target), x0, eps))
    return max(math.inf if math.isnan(gap) else gap for gap in gaps)
