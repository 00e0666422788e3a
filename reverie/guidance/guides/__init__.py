"""How samples are guided, as settings for a recipe or the command line. The scale is told apart."""

from reverie.guidance.guides.adaptive_projected import AdaptiveProjectedGuide
from reverie.guidance.guides.auto import AutoGuide
from reverie.guidance.guides.base import Guide
from reverie.guidance.guides.classifier import ClassifierGuide
from reverie.guidance.guides.classifier_free import ClassifierFreeGuide
from reverie.guidance.guides.clip import ClipGuide, Embedded

__all__ = [
    "AdaptiveProjectedGuide",
    "AutoGuide",
    "ClassifierFreeGuide",
    "ClassifierGuide",
    "ClipGuide",
    "Embedded",
    "Guide",
]
