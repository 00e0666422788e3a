r"""Noise schedules: how much signal and noise x_t = alpha(t) x0 + sigma(t) eps holds at time t.

Time runs from t = 0, the data (alpha = 1, sigma = 0), to t = 1, noise; sigma / alpha grows with t.
Every positive sigma has a t > 0 of its own, also where the published process starts from a noise
floor. Derivatives, the inverse t(log-SNR) and the discrete chain all follow from alpha and sigma.
"""

from reverie.schedules.base import Level, Schedule
from reverie.schedules.betas import (
    Betas,
    CosineBetas,
    GivenBetas,
    LinearBetas,
    ScaledLinearBetas,
    SigmoidBetas,
    ZeroTerminalSNR,
)
from reverie.schedules.continuous import Cosine, Flow, LinearVP, SubVP
from reverie.schedules.exploding import VE, Geometric
from reverie.schedules.shifted import Shifted
from reverie.schedules.table import Table

__all__ = [
    "VE",
    "Betas",
    "Cosine",
    "CosineBetas",
    "Flow",
    "Geometric",
    "GivenBetas",
    "Level",
    "LinearBetas",
    "LinearVP",
    "ScaledLinearBetas",
    "Schedule",
    "Shifted",
    "SigmoidBetas",
    "SubVP",
    "Table",
    "ZeroTerminalSNR",
]
