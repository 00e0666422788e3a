"""Editing and inverse problems: images from a part of one, from a measurement, and from other images.

The mathematics, for any denoiser and tensors in its space; it knows no runs, files or classes. What a user does with a
run and a picture is made of it in `reverie.edits`.
"""

from reverie.editing.canvas import Margins, enlarged, shifted
from reverie.editing.ddrm import DDRM, MeasuredPath
from reverie.editing.dps import DPS
from reverie.editing.images import edited, image_to_image, interpolated, slerp, taken, variations
from reverie.editing.measurement import Measurement
from reverie.editing.methods import Method
from reverie.editing.operators import Blur, Chain, Downsample, Grey, Mask, Matrix, Operator
from reverie.editing.pigdm import MomentMatched, PiGDM
from reverie.editing.resampling import Replaced, Resampled, pasted, repaint

__all__ = [
    "DDRM",
    "DPS",
    "Blur",
    "Chain",
    "Downsample",
    "Grey",
    "Margins",
    "Mask",
    "Matrix",
    "MeasuredPath",
    "Measurement",
    "Method",
    "MomentMatched",
    "Operator",
    "PiGDM",
    "Replaced",
    "Resampled",
    "edited",
    "enlarged",
    "image_to_image",
    "interpolated",
    "pasted",
    "repaint",
    "shifted",
    "slerp",
    "taken",
    "variations",
]
