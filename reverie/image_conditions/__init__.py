"""Images that a network is told: how one is made of the data in training, and of a picture when sampling."""

from reverie.image_conditions.base import ImageCondition, Shown
from reverie.image_conditions.edges import Edges
from reverie.image_conditions.grey import Grey
from reverie.image_conditions.low_resolution import LowResolution
from reverie.image_conditions.masked import Masked

__all__ = ["Edges", "Grey", "ImageCondition", "LowResolution", "Masked", "Shown"]
