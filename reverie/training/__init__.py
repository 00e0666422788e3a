"""Training: a generator of reports over a run folder."""

from reverie.training.diagnosis import NonFiniteError
from reverie.training.report import Report
from reverie.training.snapshots import reconstruct
from reverie.training.trainer import Trainer

__all__ = ["NonFiniteError", "Report", "Trainer", "reconstruct"]
