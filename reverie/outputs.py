"""Samples to files: what a path's ending says is what is written.

    .png         one sheet: images by class or by what was asked for, or a plot of data that are not images
    a folder     one PNG a sample, numbered from the first (a path without an ending, or ending in /)
    .npz         `arr_0`, images (N, H, W, C) uint8 or data (N, ...), `arr_1`, labels (N,), `texts` (N,), and
                 `attribute_NAME` for each that was asked for: what `reverie.data.Arrays` reads
    .npy         the same `arr_0` alone
    .gif, .webp  an animation from noise to sample

Pictures carry the settings and seeds they were made with; see `reverie.pictures.read_metadata`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from reverie import pictures
from reverie.data import Examples, contact_sheet
from reverie.data.captioned import with_caption
from reverie.files import atomic
from reverie.prompts import Asked, columns
from reverie.request import Request
from reverie.runs import Facts
from reverie.spaces import Space
from reverie.synthesis import Drawn

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

ANIMATIONS = {".gif": 65_535, ".webp": 16_383}
"""Endings, and the most pixels a side that the format has."""
STILLS = (".png", ".npz", ".npy", "")
MOST_ROWS = 32
"""With more classes or names than this, a sheet is in the order of the samples."""
MOST_NAMED = 256
"""With more samples than this, such a sheet has no names under the pictures."""


def check_output(path: Path, image: bool) -> None:
    """Refuse a path whose ending stands for nothing, before any work is done.

    Raises:
        ValueError: the ending is unknown, or is a picture of data that are none.
    """
    suffix = path.suffix.lower()
    if suffix not in (*ANIMATIONS, *STILLS):
        raise ValueError(
            f"{path} ends in {suffix}, which stands for nothing here; write .png (a sheet), a folder (single PNGs), "
            f".npz or .npy (arrays), .gif or .webp (an animation)"
        )
    if not image and suffix not in (".png", ".npz", ".npy"):
        raise ValueError(f"these samples are not images: write .npz, .npy or .png (a plot); given {path}")


def array(samples: Tensor, image: bool) -> np.ndarray:
    """Samples as they are exchanged: images channels last."""
    values: np.ndarray = samples.numpy()
    return np.ascontiguousarray(np.moveaxis(values, 1, -1)) if image else values


def sheet(
    samples: np.ndarray, labels: Sequence[int | None], classes: Sequence[str], names: Sequence[str] = ()
) -> Picture:
    """Images (N, C, H, W) as one picture: a row a name, or else a class, where there are several, else a square.

    Args:
        samples: the images.
        labels: the class of each; None for none.
        classes: their names.
        names: what else each is to be called. With too many of them for rows each stands under its picture.
    """
    different = list(dict.fromkeys(names))
    if 1 < len(different) <= MOST_ROWS:
        return _rows(samples, [different.index(name) for name in names], different)
    if different[1:] and len(samples) <= MOST_NAMED:
        return pictures.grid(np.stack([with_caption(samples[i], name, i) for i, name in enumerate(names)]))
    kinds = sorted({label for label in labels if label is not None})
    if not 1 < len(kinds) <= MOST_ROWS or None in labels:
        return pictures.grid(samples)
    return _rows(samples, [kinds.index(label) for label in labels if label is not None], [classes[k] for k in kinds])


def _rows(samples: np.ndarray, row: Sequence[int], names: Sequence[str]) -> Picture:
    """Sample i in row[i]."""
    place = np.array(row)
    return pictures.sheet([samples[place == k] for k in range(len(names))], row_labels=names)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the system inside name the file, whoever raised them."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_samples(path: Path, samples: Tensor, request: Request, facts: Facts, about: dict[str, Any]) -> None:
    """Write samples as data, (N, C, H, W) uint8 images or (N, ...), to what `path` ends in.

    Args:
        path: where to.
        samples: N of them.
        request: what they were asked to be.
        facts: what the run knows of its data.
        about: what pictures carry.

    Raises:
        OSError: the disk is full or cannot be written; what was there is as it was.
    """
    suffix, labels, texts = path.suffix.lower(), request.labels, request.texts
    with _named(path):
        if suffix in (".npz", ".npy"):
            _write_arrays(path, array(samples, facts.image), request)
        elif suffix == "":
            for i, sample in enumerate(samples.numpy()):
                number = int(about.get("start", 0)) + i
                own = about | {"start": number, "n": 1, "labels": [labels[i]]}
                own |= {"texts": [texts[i]]} if texts else {}
                pictures.save_png(_single(sample), path / f"{number:06d}.png", own)
        elif facts.image:
            pictures.save_png(sheet(samples.numpy(), labels, facts.classes, request.names), path, about)
        else:
            _plot(path, samples, labels, facts, about)


class Output:
    """Takes what is drawn, batch by batch, and makes of it what `path` ends in.

    Only what will be written is kept: samples as data, frames of an animation alone. Single pictures are written
    as soon as their batch is done.

    Args:
        path: where to; see `check_output`.
        space: what turns x into data.
        facts: what the run knows of its data.
        request: for all samples.
        about: what pictures carry.
    """

    def __init__(self, path: Path, space: Space, facts: Facts, request: Request, about: dict[str, Any]) -> None:
        self.path, self.space, self.facts, self.request, self.about = path, space, facts, request, about
        self.moving, self.single = path.suffix.lower() in ANIMATIONS, path.suffix == ""
        self._frames: list[Tensor] = []
        self._batches: list[list[Tensor]] = []

    def take(self, drawn: Drawn) -> None:
        """The next state; a batch that begins again replaces what there was of it.

        Raises:
            OSError: a picture cannot be written.
        """
        if drawn.step == 0:
            self._frames = []
        if not (drawn.finished or self.moving):
            return
        data = self.space.decode(drawn.x.cpu())  # on the host: the batch may have left no memory on its device
        if drawn.finished:
            self._done(drawn.first, data)
        else:
            self._frames.append(data)

    def _done(self, first: int, data: Tensor) -> None:
        if self.single:
            start = int(self.about.get("start", 0)) + first
            part = self.request.part(first, first + len(data))
            write_samples(self.path, data, part, self.facts, self.about | {"start": start})
        else:
            self._batches.append([*self._frames, data])

    def write(self) -> None:
        """Write what is not written yet.

        Raises:
            ValueError: more samples than a picture of that format can hold.
            OSError: the disk is full or cannot be written; what was there is as it was.
        """
        if self.single:
            return
        frames = [torch.cat(parts) for parts in zip(*self._batches, strict=True)]
        if self.moving:
            write_animation(self.path, frames, self.request.labels, self.facts, self.about, self.request.names)
        else:
            write_samples(self.path, frames[-1], self.request, self.facts, self.about)


def _write_arrays(path: Path, values: np.ndarray, request: Request) -> None:
    with atomic(path) as temp, temp.open("wb") as file:
        if path.suffix.lower() == ".npy":  # numpy's own `save` does not say why a disk takes no more
            np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(values))
            file.write(values.data)
        else:
            known = {"arr_0": values}
            known |= {} if None in request.labels else {"arr_1": np.array(request.labels, np.int64)}
            known |= {"texts": np.array(request.texts, np.str_)} if request.texts else {}
            known |= columns(request.cond.vocabulary, request.cond.prompts) if isinstance(request.cond, Asked) else {}
            np.savez(file, **known)  # type: ignore[arg-type]  # a name might be `allow_pickle`


def _single(sample: np.ndarray) -> Picture:
    from PIL import Image

    return Image.fromarray(sample[0] if sample.shape[0] == 1 else np.moveaxis(sample, 0, -1))


def _plot(path: Path, samples: Tensor, labels: Sequence[int | None], facts: Facts, about: dict[str, Any]) -> None:
    from PIL import Image

    known = bool(facts.classes) and None not in labels
    examples = Examples(
        items=samples.numpy(),
        labels=np.array(labels, np.int64) if known else None,
        classes=facts.classes if known else (),
    )
    contact_sheet(examples, path)
    with Image.open(path) as picture:
        picture.load()
        pictures.save_png(picture, path, about)


def write_animation(
    path: Path,
    frames: Iterable[Tensor],
    labels: Sequence[int | None],
    facts: Facts,
    about: dict[str, Any],
    names: Sequence[str] = (),
) -> None:
    """Write an animation of sheets, each of images (N, C, H, W) uint8.

    Raises:
        ValueError: more samples than a picture of that format can hold.
        OSError: the disk is full or cannot be written; what was there is as it was.
    """
    shown = [sheet(frame.numpy(), labels, facts.classes, names) for frame in frames]
    longest, most = max(shown[0].size), ANIMATIONS[path.suffix.lower()]
    if longest > most:
        raise ValueError(f"{path} would be {longest} pixels long; the format has at most {most}: draw fewer samples")
    with _named(path):
        pictures.save_animation(shown, path, fps=min(max(len(shown) / 4, 4), 25), metadata=about)
