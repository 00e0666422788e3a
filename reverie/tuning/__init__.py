"""Grids and weights fitted to the model of a run: made by `tune`, kept in its folder, found by `choose`."""

from reverie.tuning.choice import Choice, choose, described, grid_of, sampler_of, words_for
from reverie.tuning.cost import evaluations, steps_within
from reverie.tuning.judging import judge, standard_grids
from reverie.tuning.record import FILE, Count, Damaged, Tuning, model_of, read, write
from reverie.tuning.tuner import Settings, planned, tune

__all__ = [
    "FILE",
    "Choice",
    "Count",
    "Damaged",
    "Settings",
    "Tuning",
    "choose",
    "described",
    "evaluations",
    "grid_of",
    "judge",
    "model_of",
    "planned",
    "read",
    "sampler_of",
    "standard_grids",
    "steps_within",
    "tune",
    "words_for",
    "write",
]
