"""Models of noisy data that are no denoisers, and guide one: a classifier, and a pair of image and text."""

from reverie.denoiser import Denoiser
from reverie.models.classifier import NoisyClassifier
from reverie.models.guides import check_guides
from reverie.models.pair import NoisyPair

Model = Denoiser | NoisyClassifier | NoisyPair
"""All that a run can train. Its attribute `net` holds the weights."""

__all__ = ["Model", "NoisyClassifier", "NoisyPair", "check_guides"]
