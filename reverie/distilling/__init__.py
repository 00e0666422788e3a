"""Students of a run that sample in a few evaluations: which recipe makes them, and what they bring."""

from reverie.distilling.beside import FILE, STUDENT, TEACHER, Beside, Line, beside, correlation, measured, picture
from reverie.distilling.methods import METHODS, Asked, Link, Method, links, plan_for, students

__all__ = [
    "FILE",
    "METHODS",
    "STUDENT",
    "TEACHER",
    "Asked",
    "Beside",
    "Line",
    "Link",
    "Method",
    "beside",
    "correlation",
    "links",
    "measured",
    "picture",
    "plan_for",
    "students",
]
