"""Models that are no denoisers: a classifier and a pair of image and text, which guide one, and an autoencoder."""

from reverie.denoiser import Denoiser
from reverie.models.autoencoder import Autoencoder
from reverie.models.classifier import NoisyClassifier
from reverie.models.guides import check_guides
from reverie.models.pair import NoisyPair

Model = Denoiser | NoisyClassifier | NoisyPair | Autoencoder
"""All that a run can train. Its attribute `net` holds the weights."""

__all__ = ["Autoencoder", "Model", "NoisyClassifier", "NoisyPair", "check_guides"]
