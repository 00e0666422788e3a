"""Linear operators H, one file each: what a measurement y = H x0 + noise sees of an image."""

from reverie.editing.operators.base import Operator, Spectrum
from reverie.editing.operators.blur import Blur
from reverie.editing.operators.chain import Chain
from reverie.editing.operators.downsample import Downsample
from reverie.editing.operators.grey import Grey
from reverie.editing.operators.kronecker import Kronecker
from reverie.editing.operators.mask import Mask
from reverie.editing.operators.matrix import Matrix

__all__ = ["Blur", "Chain", "Downsample", "Grey", "Kronecker", "Mask", "Matrix", "Operator", "Spectrum"]
