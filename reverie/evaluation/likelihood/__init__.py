"""Bits per dimension of a run's data."""

from reverie.evaluation.likelihood.figures import Bound, Likelihood, Ode, Progress, Settings, Solver, name_of
from reverie.evaluation.likelihood.measure import measure

__all__ = ["Bound", "Likelihood", "Ode", "Progress", "Settings", "Solver", "measure", "name_of"]
