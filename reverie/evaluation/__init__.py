"""How good a run is, in numbers that carry their protocol."""

from reverie.evaluation.figures import Bound, Likelihood, Ode, Progress, Settings, Solver, name_of
from reverie.evaluation.likelihood import measure

__all__ = ["Bound", "Likelihood", "Ode", "Progress", "Settings", "Solver", "measure", "name_of"]
