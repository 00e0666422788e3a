"""Captions of a folder of images: `metadata.jsonl`, or a text file beside each image.

`metadata.jsonl` has one JSON object a line, with `file_name`, relative to the folder that `metadata.jsonl` is in, and
`text`; what else an object holds is kept apart. It is the form of the Hugging Face library datasets ("imagefolder").
There may be one in every folder. Or `a/b.png` has its caption in `a/b.txt`.

Letters in shapes: N images.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

METADATA = "metadata.jsonl"
NAME, TEXT = "file_name", "text"
"""The keys that mean something here."""


@dataclass(frozen=True)
class Row:
    """What is known of one image.

    Attributes:
        text: its caption, without white space at its ends; None where only other columns are given.
        where: the file, and the line in it, that says so.
        columns: what else stands there, by name.
    """

    text: str | None
    where: str
    columns: Mapping[str, Any] = field(default_factory=dict)


def captions(root: Path, sources: Sequence[str]) -> tuple[str, ...]:
    """The caption of every image; none at all when the folder has no captions.

    Args:
        root: the folder.
        sources: N names of image files below it, with forward slashes, as in `reverie.data.Examples`.

    Returns:
        N texts, or () when not one of these images has a caption.

    Raises:
        ValueError: some have a caption and some do not, or what `table` refuses.
    """
    rows = table(root, sources)
    found = [rows[name].text if name in rows else None for name in sources]
    told = [text for text in found if text is not None]
    if not told:
        return ()
    if len(told) < len(found):
        first = _printable(sources[found.index(None)])
        raise ValueError(
            f"{len(found) - len(told)} of {len(found)} images in {root} have no caption, such as {first}; "
            f"give every image one, in {METADATA} or in a .txt file beside it, or none"
        )
    return tuple(told)


def table(root: Path, sources: Sequence[str]) -> dict[str, Row]:
    """What the folder says of its images, by their names; images of which it says nothing are not in it.

    Args:
        root: the folder.
        sources: names of image files below it, with forward slashes.

    Raises:
        ValueError: a line or a file is damaged, empty or not UTF-8, names no image of the folder or one outside it,
            or an image has two captions; the message names the file and the line.
    """
    root = root.expanduser().resolve()
    known, rows = frozenset(sources), dict[str, Row]()
    for folder in sorted({parent for name in known for parent in PurePosixPath(name).parents}):
        for name, row in _of_metadata(root, folder, known):
            if name in rows:
                raise _twice(name, rows[name], row)
            rows[name] = row
    for name in sources:
        beside, before = _beside(root, name), rows.get(name)
        if beside is None:
            continue
        if before is not None and before.text is not None:
            raise _twice(name, before, beside)
        rows[name] = beside if before is None else replace(before, text=beside.text)
    return rows


def _twice(name: str, one: Row, other: Row) -> ValueError:
    return ValueError(f"two captions for {_printable(name)}: {one.where} and {other.where}; leave one")


def _of_metadata(root: Path, folder: PurePosixPath, known: frozenset[str]) -> Iterator[tuple[str, Row]]:
    """What the `metadata.jsonl` of one folder says of the images in `known`."""
    path = root / folder / METADATA
    if not path.exists():
        return
    for number, line in enumerate(_read(root, path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{_printable(path.relative_to(root).as_posix())} line {number}"
        row = _object(line, f"{root}, {where}")
        name = _name(row, root, folder, f"{root}, {where}")
        if name in known:
            text = _text(row.get(TEXT), f"{root}, {where}") if TEXT in row else None
            yield name, Row(text, where, {k: v for k, v in row.items() if k not in (NAME, TEXT)})
        elif not _is_file(root / name):
            raise ValueError(f"{root}, {where} names {row[NAME]!r}, and there is no such file")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON ({error}); right is an object with {NAME} and {TEXT}") from None
    if not isinstance(found, dict) or not isinstance(found.get(NAME), str):
        raise ValueError(f"{where} names no image; right is an object with {NAME} and {TEXT}")
    return found


def _name(row: Mapping[str, Any], root: Path, folder: PurePosixPath, where: str) -> str:
    """The image that a row is about, by its path below the root."""
    given = row[NAME]
    name = posixpath.normpath(posixpath.join(folder.as_posix(), given))
    if not _writable(given) or "\0" in given:
        raise ValueError(f"{where} names {given!r}, which is no name of a file")
    if posixpath.isabs(name) or name.split("/")[0] == ".." or not _inside(root / name, root):
        raise ValueError(f"{where} names {given!r}, which leads out of the folder")
    return name


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} has a {TEXT} that is no text: {str(value)[:40]!r}")
    if not value.strip():
        raise ValueError(f"{where} holds an empty caption")
    if not _writable(value):
        raise ValueError(f"{where} holds a caption that UTF-8 cannot write")
    return value.strip()


def _writable(text: str) -> bool:
    """Whether UTF-8 can write it: JSON can hold half a character of UTF-16."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _beside(root: Path, name: str) -> Row | None:
    """The caption in the text file beside an image: its lines, as one."""
    path = (root / name).with_suffix(".txt")
    if not path.is_file():
        return None
    where = _printable(path.relative_to(root).as_posix())
    return Row(_text(" ".join(_read(root, path).split()), f"{root}, {where}"), where)


def _read(root: Path, path: Path) -> str:
    """The text of a file of the folder."""
    where = f"{root}, {_printable(path.relative_to(root).as_posix())}"
    if not _inside(path, root):
        raise ValueError(f"{where} is a link that leads out of the folder")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{where} line {line} is not UTF-8 (byte {error.object[error.start]:#04x})") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def _inside(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)


def _printable(name: str) -> str:
    """A file name that UTF-8 can write, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
