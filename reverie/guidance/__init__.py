"""Guidance: wrappers of a denoiser that steer it and are denoisers themselves."""

from reverie.guidance.classifier_free import ClassifierFree

__all__ = ["ClassifierFree"]
