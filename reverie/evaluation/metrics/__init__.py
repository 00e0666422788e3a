"""Metrics: one number about samples beside real examples, a file each."""

from reverie.evaluation.metrics.base import Metric, Unfit

__all__ = ["Metric", "Unfit"]
