"""Metrics: one number about samples beside real examples, a file each."""

from __future__ import annotations

from reverie.config import lookup, registered
from reverie.evaluation.metrics.base import Metric, Unfit
from reverie.evaluation.metrics.fid import frechet

__all__ = ["Metric", "Unfit", "frechet", "from_names", "standard"]


def standard(learned: bool, probabilities: bool = True, labels: bool = True, network: str = "") -> tuple[Metric, ...]:
    """The metrics that are measured unless others are asked for, in the order of a table.

    Args:
        learned: whether the features come from a network.
        probabilities: whether the extractor gives probabilities of classes.
        labels: whether it tells apart the classes of these examples by name.
        network: its network's name in `Opened.about`, for metrics that are defined in the features of one alone.
    """
    fitting = ("both", "learned" if learned else "values")
    lacking = {name for name, there in (("probabilities", probabilities), ("labels", labels)) if not there}
    found = [cls for cls in _every() if cls.on in fitting or (cls.network and cls.network == network)]
    return tuple(cls() for cls in found if not lacking & set(cls.needs))


def from_names(text: str) -> tuple[Metric, ...]:
    """The metrics of `fid,kid,precision`, each once, in that order.

    Raises:
        ValueError: no name, or one that no metric has; the message lists those there are.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError(f"no metric is named in {text!r}; known: {', '.join(registered(Metric))}")
    return tuple({cls: cls() for cls in (_found(name) for name in names)}.values())


def _every() -> list[type[Metric]]:
    """All, in the order of a table."""
    kinds = [cls for cls in registered(Metric).values() if issubclass(cls, Metric)]
    return sorted(kinds, key=lambda cls: (cls.place, cls.kind))


def _found(name: str) -> type[Metric]:
    found = lookup(Metric, name)
    assert issubclass(found, Metric)
    return found
