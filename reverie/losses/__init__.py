"""Losses: what is compared, at which times, with which weight."""

from reverie.losses.denoising import Denoising, Loss
from reverie.losses.times import KnotTimes, LogitNormalTimes, LogNormalTimes, Times, UniformTimes
from reverie.losses.weights import EDMWeight, MinSNR, Unit, Weight

__all__ = [
    "Denoising",
    "EDMWeight",
    "KnotTimes",
    "LogNormalTimes",
    "LogitNormalTimes",
    "Loss",
    "MinSNR",
    "Times",
    "UniformTimes",
    "Unit",
    "Weight",
]
