"""Spaces: data <-> what the model sees. A file each; `Latent` has an autoencoder in it."""

from reverie.spaces.base import Space
from reverie.spaces.latent import Latent, OpenedLatent
from reverie.spaces.pixels import Pixels
from reverie.spaces.standardized import Standardized

__all__ = ["Latent", "OpenedLatent", "Pixels", "Space", "Standardized"]
