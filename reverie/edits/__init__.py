"""Editing with a run: a picture, one of the ways from it to others, and what is wished of them.

From 8-bit pictures to 8-bit pictures, in batches, by a run's own settings and conditions. The methods themselves, for
any denoiser, are in `reverie.editing`.
"""

from reverie.edits.drawing import edit
from reverie.edits.filling import Inpaint, Outpaint
from reverie.edits.moving import Blend, Convert, Redraw
from reverie.edits.restoring import Restore, measured
from reverie.edits.scene import Scene, Wish
from reverie.edits.telling import Told, tells
from reverie.edits.varying import Vary
from reverie.edits.way import Way

__all__ = [
    "Blend",
    "Convert",
    "Inpaint",
    "Outpaint",
    "Redraw",
    "Restore",
    "Scene",
    "Told",
    "Vary",
    "Way",
    "Wish",
    "edit",
    "measured",
    "tells",
]
