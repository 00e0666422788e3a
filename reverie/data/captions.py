"""Captions and attributes of a folder of images: `metadata.jsonl` or `.csv`, or a text file beside each image.

A row of the metadata names its image in `file_name`, relative to the folder that the file is in, and has the caption in
`text`, or in `caption` where it has no `text`; what else it holds becomes attributes, see `reverie.data.columns`. It is
the form of the Hugging Face library datasets ("imagefolder"), whose convention `text` is. There may be such a file in
every folder. Or `a/b.png` has its caption in `a/b.txt`.

What is wrong is named, counted and left out; the rest is read. No file outside the folder is opened.

Letters in shapes: N images or examples.
"""

from __future__ import annotations

import itertools
import logging
import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from reverie.data.base import Attribute, Skipped
from reverie.data.columns import Cell, LeftOut, attributes
from reverie.data.metadata import (
    FILES,
    NAME,
    TEXTS,
    Record,
    content,
    decoded,
    inside,
    printable,
    records,
    shown,
    writable,
)

log = logging.getLogger("reverie")


@dataclass(frozen=True)
class Row:
    """What is known of one image.

    Attributes:
        text: its caption, without white space at its ends; '' where there is none.
        where: the file, and the line in it, that says so.
        columns: what else stands there, by name.
        told: whether a trouble says already why there is no caption.
    """

    text: str
    where: str
    columns: Mapping[str, Any] = field(default_factory=dict)
    told: bool = False


@dataclass(frozen=True, eq=False)
class Told:
    """What a folder says of its images.

    Attributes:
        texts: N captions, '' for an image that has none; empty where no image has one.
        attributes: what the other columns are, in the order of their names.
        troubles: what is wrong, in the order of the files and lines, then of the images, then of the columns.
        left_out: columns that are no attributes, and why.
    """

    texts: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    troubles: tuple[Skipped, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def told(root: Path, sources: Sequence[str], skipped: Collection[str] = ()) -> Told:
    """Everything that the folder says of these images.

    Args:
        root: the folder.
        sources: N names of image files below it, with forward slashes, as in `reverie.data.Examples`.
        skipped: names, as UTF-8 can write them, of images that are left out; a row about one of them does no harm.
    """
    root = root.expanduser().resolve()
    rows, troubles = _of_metadata(root, sources, frozenset(skipped))
    rows, wrong = _with_text_files(root, sources, rows)
    texts = [rows[name].text if name in rows else "" for name in sources]
    captioned = any(texts)
    without = _without(sources, rows, captioned)
    columns = sorted({column for row in rows.values() for column in row.columns})
    made = attributes({c: [_cell(rows.get(name), c) for name in sources] for c in columns})
    every = (*troubles, *wrong, *without, *made.troubles)
    return Told(tuple(texts) if captioned else (), made.attributes, every, made.left_out)


def texts_of_array(name: str, values: np.ndarray, count: int) -> tuple[tuple[str, ...], tuple[Skipped, ...]]:
    """The captions that an array of texts holds, '' for none, and what is wrong with them; none where it is no such.

    Args:
        name: of the array.
        values: (N,) texts, or bytes of UTF-8.
        count: N, of the examples.
    """
    if values.dtype.kind not in "US" or values.shape != (count,):
        why = f"holds {values.dtype} {values.shape} where {count} texts would be captions"
        return (), (Skipped(f"array {name!r}", why),)
    found = [_of_cell(value, f"#{index}") for index, value in enumerate(values.tolist())]
    troubles = tuple(text for text in found if isinstance(text, Skipped))
    texts = tuple("" if isinstance(text, Skipped) else text for text in found)
    return (texts if any(texts) else ()), troubles


def _of_cell(value: str | bytes, where: str) -> str | Skipped:
    text = decoded(value, where) if isinstance(value, bytes) else value
    return text if isinstance(text, Skipped) else _text(text, where, TEXTS[0])


def judged(troubles: Sequence[Skipped], of: Path, strict: bool) -> None:
    """Warn of what is wrong with captions and attributes, once, or refuse it.

    Args:
        troubles: what is wrong; nothing is said of none.
        of: the folder or file.
        strict: whether it is refused.

    Raises:
        ValueError: there are troubles, and `strict` forbids them.
    """
    if not troubles:
        return
    listed = [f"{s.path}: {s.reason}" for s in troubles[:5]]
    count = f"{len(troubles)} {'troubles' if len(troubles) > 1 else 'trouble'}"
    if strict:
        raise ValueError(f"{count} with the captions or attributes of {of}, the first: {listed[0]}")
    more = f"; and {len(troubles) - 5} more" if len(troubles) > 5 else ""
    log.warning("%s with the captions or attributes of %s (%s%s)", count, of, "; ".join(listed), more)


def _cell(row: Row | None, column: str) -> Cell:
    return Cell() if row is None else Cell(row.columns.get(column), row.where)


def _without(sources: Sequence[str], rows: Mapping[str, Row], captioned: bool) -> Iterator[Skipped]:
    """Images of which nothing is said where something is said of others."""
    for name in sources if rows else ():
        row = rows.get(name)
        if captioned and not (row and (row.text or row.told)):
            yield Skipped(printable(name), "has no caption")
        elif not captioned and row is None:
            yield Skipped(printable(name), "no row names it")


# ---------------------------------------------------------------------------------------- reading


def _of_metadata(root: Path, sources: Sequence[str], skipped: frozenset[str]) -> tuple[dict[str, Row], list[Skipped]]:
    """Rows by the name of their image, the first where there are several, and what is wrong; outer folders first."""
    known, rows, troubles = frozenset(sources), dict[str, Row](), list[Skipped]()
    folders = sorted({parent for name in known for parent in PurePosixPath(name).parents})
    for folder, file in itertools.product(folders, FILES):
        for record in records(root, root / folder / file):
            if isinstance(record, Skipped):
                troubles.append(record)
                continue
            name = posixpath.normpath(posixpath.join(folder.as_posix(), record.values[NAME]))
            if name in rows:
                troubles.append(_second("row", name, record.where, rows[name]))
            elif name in known:
                rows[name], wrong = _row(record)
                troubles += wrong
            elif why := _refusal(record.values[NAME], name, root, skipped):
                troubles.append(Skipped(record.where, f"names {shown(record.values[NAME])}, which {why}"))
    return rows, troubles


def _with_text_files(
    root: Path, sources: Sequence[str], rows: Mapping[str, Row]
) -> tuple[dict[str, Row], list[Skipped]]:
    """The rows with the captions that stand in text files, where they have none, and what is wrong with those."""
    found, troubles = dict(rows), list[Skipped]()
    for name in sources:
        beside, before = _beside(root, name), found.get(name)
        if isinstance(beside, Skipped):
            troubles.append(beside)
            found[name] = replace(before or Row("", beside.path), told=True)
        elif beside and before and before.text:
            troubles.append(_second("caption", name, beside.where, before))
        elif beside:
            found[name] = replace(before, text=beside.text) if before else beside
    return found, troubles


def _second(what: str, name: str, where: str, kept: Row) -> Skipped:
    return Skipped(where, f"a second {what} for {printable(name)}; the one in {kept.where} is kept")


def _row(record: Record) -> tuple[Row, list[Skipped]]:
    """A row of the metadata, and what is wrong with its caption."""
    key = next((key for key in TEXTS if key in record.values), TEXTS[0])
    text = _text(record.values.get(key), record.where, key)
    columns = {k: v for k, v in record.values.items() if k not in (NAME, key)}
    if isinstance(text, Skipped):
        return Row("", record.where, columns, told=True), [text]
    return Row(text, record.where, columns), []


def _refusal(given: str, name: str, root: Path, skipped: frozenset[str]) -> str:
    """Why there is no image of this name below the root; empty where that was said of the image."""
    if not writable(given) or "\0" in given:
        return "is no name of a file"
    if posixpath.isabs(name) or name.split("/")[0] == ".." or not inside(root / name, root):
        return "leads out of the folder"
    if name in skipped:
        return ""
    return "is not read as an image" if _exists(root / name) else "does not exist"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def _text(value: object, where: str, key: str) -> str | Skipped:
    """A caption, '' where there is none; or what is wrong with it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return Skipped(where, f"has a {key} that is no text: {shown(value)}")
    if not value.strip():
        return Skipped(where, "holds an empty caption")
    return value.strip() if writable(value) else Skipped(where, "holds a caption that UTF-8 cannot write")


def _beside(root: Path, name: str) -> Row | Skipped | None:
    """The caption in the text file beside an image: its lines, as one."""
    path = (root / name).with_suffix(".txt")
    if not path.is_file():
        return None
    where, data = printable(path.relative_to(root).as_posix()), content(root, path)
    text = data if isinstance(data, Skipped) else decoded(data, where)
    if not isinstance(text, Skipped):
        text = _text(" ".join(text.split()), where, TEXTS[0])
    return text if isinstance(text, Skipped) else Row(text, where)
