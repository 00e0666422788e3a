"""How good a run is, in numbers that carry their protocol."""

from reverie.evaluation.likelihood import Bound, Likelihood, Ode, Progress, Settings, Solver, measure

__all__ = ["Bound", "Likelihood", "Ode", "Progress", "Settings", "Solver", "measure"]
