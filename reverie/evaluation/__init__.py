"""How good samples are, in numbers that carry their protocol.

`evaluate` compares a `Collection` of samples with one of real examples; `reverie.evaluation.reading` makes these
of files and runs, `reverie.evaluation.subject` draws samples of a run. Features come from `extractors`, what is
measured in them from `metrics`; `likelihood` counts bits per dimension, `pairs` judge captions.
"""

from reverie.evaluation.collection import Collection
from reverie.evaluation.evaluate import Reference, Settings, evaluate
from reverie.evaluation.numbers import Evaluation, LeftOut, Number
from reverie.evaluation.subject import Subject
from reverie.evaluation.team import Team

__all__ = ["Collection", "Evaluation", "LeftOut", "Number", "Reference", "Settings", "Subject", "Team", "evaluate"]
