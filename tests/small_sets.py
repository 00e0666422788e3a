"""Small files laid out as those of the built-in sets, for tests that must not fetch the real ones."""

import gzip
import struct

import numpy as np
from PIL import Image

NOTO, TWEMOJI = "emoji-datasource-google/img/google/64", "emoji-datasource-twitter/img/twitter/64"


def pack(array):
    """An array as the bytes of an idx file."""
    code = {"u1": 8, "i2": 11, "f4": 13}[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_set(folder, train=20, test=10, zipped=True, names="{}-{}-idx{}-ubyte"):
    """The four idx files of a set of random pictures of 5x4 pixels; what they hold, by part."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    made = {}
    for part, count in (("train", train), ("t10k", test)):
        images, labels = random.integers(0, 256, (count, 5, 4), np.uint8), (np.arange(count) % 10).astype(np.uint8)
        made[part] = images, labels
        for what, array in (("images", images), ("labels", labels)):
            data, name = pack(array), names.format(part, what, array.ndim)
            (folder / (name + ".gz" * zipped)).write_bytes(gzip.compress(data) if zipped else data)
    return made


def draw_emoji(folder, stems, seed=0):
    """Pictures of random colours, half of every one transparent."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for stem in stems:
        pixels = random.integers(0, 256, (8, 8, 4), np.uint8)
        pixels[:, :4, 3], pixels[:, 4:, 3] = 255, 0
        Image.fromarray(pixels).save(folder / f"{stem}.png")
