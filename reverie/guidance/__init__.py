"""Guidance: wrappers of a denoiser that steer it and are denoisers themselves."""

from reverie.guidance.adaptive_projected import AdaptiveProjected
from reverie.guidance.auto import AutoGuided
from reverie.guidance.classifier import ClassifierGuided, Classifies, LabelPull
from reverie.guidance.classifier_free import ClassifierFree
from reverie.guidance.clip import ClipGuided, Pairs, TextPull
from reverie.guidance.guides import (
    AdaptiveProjectedGuide,
    AutoGuide,
    ClassifierFreeGuide,
    ClassifierGuide,
    ClipGuide,
    Embedded,
    Guide,
)
from reverie.guidance.mean import MeanGuided
from reverie.guidance.pull import Pull, Pulled
from reverie.guidance.thresholded import Thresholded

__all__ = [
    "AdaptiveProjected",
    "AdaptiveProjectedGuide",
    "AutoGuide",
    "AutoGuided",
    "ClassifierFree",
    "ClassifierFreeGuide",
    "ClassifierGuide",
    "ClassifierGuided",
    "Classifies",
    "ClipGuide",
    "ClipGuided",
    "Embedded",
    "Guide",
    "LabelPull",
    "MeanGuided",
    "Pairs",
    "Pull",
    "Pulled",
    "TextPull",
    "Thresholded",
]
