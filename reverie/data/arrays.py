"""Arrays that somebody saved with numpy: pictures, vectors, series, anything of one shape an example.

Letters in shapes: N examples, K classes, C channels, H height, W width, D numbers, ... one example.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reverie.data.base import Attribute, Data, Examples
from reverie.data.captions import judged, texts_of_array
from reverie.data.columns import of_array

ITEMS = ("x", "images", "data", "arr_0")
LABELS = ("y", "labels", "label", "arr_1")
TEXTS = ("text", "texts", "captions")
ATTRIBUTE = "attribute_"
"""Begins the name of an array that is an attribute, called by what follows."""


@dataclass(frozen=True)
class Arrays(Data, kind="arrays"):
    """A .npy file of items, or an .npz file of items and perhaps labels, classes and split.

    **Which array.** The items are the first of `x`, `images`, `data`, `arr_0`, or else the only array,
    or the only one of more than one axis; the labels the first of `y`, `labels`, `label`, `arr_1`, when there is one.
    Labels are whole numbers, or texts, whose classes are sorted. An array `classes` of K texts names
    the classes; an array `split` of N texts marks the official test set by 'test'. Captions are N texts
    in the first of `text`, `texts`, `captions`.

    **What it is.** uint8 of four axes with C of 1, 3 or 4 is pictures, (N, C, H, W) or (N, H, W, C);
    where both fit, channels come first. uint8 (N, H, W) with H, W >= 4 is grey pictures. All else is
    numbers and becomes float32; one number an example becomes (N, 1).

    Attributes:
        path: the file.
        items: name of the items in an .npz.
        labels: name of the labels in an .npz; '' for none.
        image: says that the items are pictures, or that they are not.
        channels_last: says which of (N, H, W, C) and (N, C, H, W) the pictures are.
        attributes: names of other arrays that are attributes: N texts or truths a kind; (N,) or (N, D) numbers. Unless
            any is named, those of N values called `attribute_NAME`, each as the attribute NAME.
        strict: whether what is wrong with captions is an error.
    """

    path: str
    items: str | None = None
    labels: str | None = None
    image: bool | None = None
    channels_last: bool | None = None
    attributes: tuple[str, ...] = ()
    strict: bool = False

    def load(self) -> Examples:
        """The arrays; pickled objects are never loaded.

        Raises:
            ValueError: the file is damaged, holds objects, is empty, has NaN or infinite numbers, is
                ambiguous about which array is which, or its labels or attributes do not fit.
        """
        path = Path(self.path).expanduser()
        arrays = _read(path)
        key = self._key_of_items(arrays)
        items, image = self._shaped(arrays[key], key)
        labels, classes = self._labelled(arrays, key, len(items))
        lower = {k.lower(): k for k in arrays if k not in (key, self.labels, *self.attributes)}
        named = next((lower[name] for name in TEXTS if name in lower), None)
        texts, troubles = texts_of_array(named, arrays[named], len(items)) if named else ((), ())
        judged(troubles, path, self.strict)
        return Examples(
            items,
            labels,
            classes,
            image=image,
            held_out=_held_out(arrays, len(items)),
            texts=texts,
            attributes=self._attributes(arrays, len(items)),
            troubles=troubles,
        )

    @classmethod
    def opens(cls, path: Path) -> Arrays | None:
        """A file whose name ends in .npy or .npz."""
        return cls(str(path)) if path.suffix.lower() in (".npy", ".npz") and path.is_file() else None

    def _key_of_items(self, arrays: Mapping[str, np.ndarray]) -> str:
        if self.items is not None:
            return _known(self.items, arrays, self.path, "items")
        lower = {key.lower(): key for key in arrays}
        for name in ITEMS:
            if name in lower:
                return lower[name]
        wide = [key for key, array in arrays.items() if array.ndim > 1 or len(arrays) == 1]
        if len(wide) == 1:
            return wide[0]
        raise ValueError(f"{self.path} has several candidates, {_listed(arrays)}; write data.items=NAME")

    def _shaped(self, array: np.ndarray, key: str) -> tuple[np.ndarray, bool]:
        """The items as pictures or float32, and which of the two they are."""
        what = f"{key!r} of {self.path}"
        if array.dtype.kind not in "biuf":
            raise ValueError(f"the items {what} must be numbers; they are {array.dtype}")
        if array.ndim == 0 or array.size == 0:
            raise ValueError(f"the items {what} are empty: shape {array.shape}")
        pictures = self._pictures(array)
        if pictures is not None:
            return pictures, True
        if self.image or self.channels_last is not None:
            raise ValueError(
                f"pictures are uint8 of shape (N, H, W), (N, C, H, W) or (N, H, W, C) with C 1, 3 or 4; "
                f"the items {what} are {array.dtype} {array.shape}"
            )
        with np.errstate(over="ignore"):
            items = np.ascontiguousarray(array, np.float32)
        finite = np.isfinite(items.reshape(len(items), -1))
        if not finite.all():
            bad = int(finite.size - finite.sum())
            row = int(np.flatnonzero(~finite.all(1))[0])
            raise ValueError(
                f"the items {what} have {bad} values that are not finite in float32, the first in row {row}"
            )
        return (items[:, None] if items.ndim == 1 else items), False

    def _pictures(self, array: np.ndarray) -> np.ndarray | None:
        """The array as (N, C, H, W), when it is pictures."""
        if array.dtype != np.uint8 or self.image is False:
            return None
        if array.ndim == 3 and self.channels_last is None:
            return array[:, None] if self.image or min(array.shape[1:]) >= 4 else None
        if array.ndim != 4:
            return None
        first, last = array.shape[1] in (1, 3, 4), array.shape[3] in (1, 3, 4)
        if first and self.channels_last is not True:
            return array
        if last and self.channels_last is not False:
            return np.moveaxis(array, 3, 1)
        return None

    def _labelled(
        self, arrays: Mapping[str, np.ndarray], items: str, count: int
    ) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Labels and the names of their classes."""
        lower = {key.lower(): key for key in arrays if key != items}
        found = next((lower[name] for name in LABELS if name in lower), None)
        key = found if self.labels is None else self.labels
        if not key:
            return None, ()
        values = arrays[_known(key, arrays, self.path, "labels")]
        what, cure = f"the labels {key!r} of {self.path}", "write data.labels='' to do without them"
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if values.shape != (count,):
            raise ValueError(f"{what} have shape {values.shape}; expected ({count},), one an item; {cure}")
        if values.dtype.kind in "US":
            texts, numbers = np.unique(values.astype(str), return_inverse=True)
            return numbers.astype(np.int64), tuple(map(str, texts))
        if values.dtype.kind not in "biuf" or not (np.isfinite(values) & (values == np.floor(values))).all():
            raise ValueError(f"{what} are not whole numbers; {cure}")
        if values.min() < 0 or values.max() > 1_000_000:
            worst = values.min() if values.min() < 0 else values.max()
            raise ValueError(f"{what} must be class numbers from 0 up; one of them is {worst}; {cure}")
        labels = values.astype(np.int64)
        names, most = arrays.get("classes"), int(labels.max()) + 1
        if names is not None and names.dtype.kind in "US" and names.ndim == 1 and len(names) >= most:
            return labels, tuple(map(str, names.astype(str)))
        return labels, tuple(map(str, range(most)))

    def _attributes(self, arrays: Mapping[str, np.ndarray], count: int) -> tuple[Attribute, ...]:
        """The arrays that are said to be attributes, in this order, or are so called."""
        if len(set(self.attributes)) < len(self.attributes):
            raise ValueError(f"data.attributes names an array twice: {', '.join(self.attributes)}")
        called = {key.removeprefix(ATTRIBUTE): key for key in arrays if key.startswith(ATTRIBUTE) and key != ATTRIBUTE}
        own = {name: name if name in arrays else called.get(name, name) for name in self.attributes}
        if not own:
            return tuple(made for name, key in called.items() if (made := _if_any(name, arrays[key], count)))
        return tuple(
            of_array(name, arrays[_known(key, arrays, self.path, "attributes")], count) for name, key in own.items()
        )


def _if_any(name: str, values: np.ndarray, count: int) -> Attribute | None:
    """The attribute that an array may be, which nobody says; None for one that cannot be any."""
    try:
        return of_array(name, values, count)
    except (ValueError, TypeError):
        return None


def _read(path: Path) -> dict[str, np.ndarray]:
    """Every array of the file that numpy reads without unpickling, by name."""
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        loaded = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {path.stem: loaded}
        with loaded:
            arrays = {key: _member(loaded, key) for key in loaded.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        pickled = any(word in str(error) for word in ("pickle", "Python objects"))
        why = "it holds pickled objects, which are never loaded, or is no numpy file" if pickled else str(error)
        raise ValueError(f"{path} cannot be read: {why}") from None
    found = {key: array for key, array in arrays.items() if array is not None}
    if not found:
        raise ValueError(f"{path} holds nothing, or only pickled objects, which are never loaded")
    return found


def _member(archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray | None:
    """One array of an archive; None for pickled objects beside it, which are of no use here."""
    try:
        found = archive[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            return None
        raise
    return found if isinstance(found, np.ndarray) else None


def _held_out(arrays: Mapping[str, np.ndarray], count: int) -> np.ndarray | None:
    """Indices of the examples that an array `split` marks as 'test'."""
    marks = arrays.get("split")
    if marks is None or marks.shape != (count,) or marks.dtype.kind not in "US":
        return None
    found = np.flatnonzero(marks.astype(str) == "test")
    return found if 0 < len(found) < count else None


def _known(key: str, arrays: Mapping[str, np.ndarray], path: str, role: str) -> str:
    if key not in arrays:
        raise ValueError(f"{path} has no array {key!r} for data.{role}; it has {_listed(arrays)}")
    return key


def _listed(arrays: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items())
