"""From an image file to an array of the size asked for.

Letters in shapes: C channels (1 grey, 3 RGB, 4 RGBA), H height, W width.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Resize = Literal["crop", "pad", "stretch"]
Channels = Literal[1, 3, 4]

REFUSED = frozenset({"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"})
"""Formats that pillow recognises but reads by running another program, or not at all."""

ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held; 5 to 8 exchange width and height."""


@functools.cache
def formats() -> dict[str, str]:
    """File name extension, such as '.png', to the name of a format that pillow reads."""
    from PIL import Image

    Image.init()
    known = Image.registered_extensions().items()
    return {end: name for end, name in known if name in Image.OPEN and name not in REFUSED}


def _open(path: Path) -> Picture:
    from PIL import Image

    return Image.open(path, formats=sorted(set(formats().values())))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height by the header of the file, held as its EXIF orientation says.

    Raises:
        Exception: whatever pillow raises on a damaged file; see `reason`.
    """
    with _open(path) as image:
        turned = "exif" in image.info and image.getexif().get(ORIENTATION, 1) >= 5
        return (image.height, image.width) if turned else (image.width, image.height)


def decode(path: Path, size: tuple[int, int] | None, resize: Resize, channels: Channels | None) -> np.ndarray:
    """The first frame of an image file as (C, H, W) uint8, turned as its EXIF orientation says.

    16-bit greys become round(v / 257). With fewer channels than the file has, transparency is laid
    over white and colour becomes luma (ITU-R BT.601). Resizing is bicubic with antialiasing, alpha
    premultiplied; an image of the right size is left as it is.

    Args:
        path: the file.
        size: (H, W), or None to keep the image's own.
        resize: `crop` fills the size and cuts what juts out, in the middle; `pad` fits inside it, on
            black, or on nothing when the image has transparency; `stretch` ignores proportions.
        channels: C; None for the fewest that hold the image exactly.

    Raises:
        Exception: whatever pillow raises on a damaged file; see `reason`.
    """
    from PIL import Image, ImageOps

    with _open(path) as opened:
        image = _eight_bit(ImageOps.exif_transpose(opened))
    target = size and (size[1], size[0])
    bicubic = Image.Resampling.BICUBIC
    if target and image.size != target:
        if resize == "crop":
            image = ImageOps.fit(image, target, bicubic)
        elif resize == "pad":
            image = ImageOps.contain(image, target, bicubic)
        else:
            image = image.resize(target, bicubic)
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    if target and image.size != target:
        page = Image.new(image.mode, target)  # zeros: black, or nothing
        page.paste(image, ((target[0] - image.width) // 2, (target[1] - image.height) // 2))
        image = page
    return _with_channels(image, channels)


def _eight_bit(image: Picture) -> Picture:
    """The image in mode L, RGB or RGBA."""
    from PIL import Image

    if image.mode.startswith("I"):  # I;16 and its byte orders; I, by which pillow reads 16-bit PGM
        return Image.fromarray(np.rint(np.clip(np.asarray(image), 0, 65535) / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save them as a .npy file")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _with_channels(image: Picture, channels: Channels | None) -> np.ndarray:
    from PIL import Image

    if channels is None:
        pixels = np.atleast_3d(np.asarray(image))
        grey = pixels.shape[2] == 3 and bool((pixels == pixels[..., :1]).all())
        return np.ascontiguousarray(np.moveaxis(pixels[..., :1] if grey else pixels, 2, 0))
    if channels < 4 and image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    pixels = np.atleast_3d(np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])))
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0))


def reason(error: Exception, path: Path) -> str:
    """Why an image could not be decoded, in words."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image that pillow reads" if path.stat().st_size else "an empty file"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, as in a decompression bomb"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split())[:200] or type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()
