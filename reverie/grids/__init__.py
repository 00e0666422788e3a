"""Grids: the times a sampler visits."""

from reverie.grids.angle import Angle
from reverie.grids.base import Grid, checked_times
from reverie.grids.sections import Sections
from reverie.grids.spacings import Karras, Knots, LogSNR, Uniform
from reverie.grids.tuned import Tuned

__all__ = [
    "Angle",
    "Grid",
    "Karras",
    "Knots",
    "LogSNR",
    "Sections",
    "Tuned",
    "Uniform",
    "checked_times",
]
