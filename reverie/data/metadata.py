"""The rows of `metadata.jsonl` and `metadata.csv`, whatever state the file is in.

`metadata.jsonl` has a JSON object a line; `metadata.csv` has the names of its columns in the first line. What cannot be
read of a file is given in place of a row, with the line it stands in, and the rest is read all the same.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reverie.data.base import Skipped

FILES = ("metadata.jsonl", "metadata.csv")
"""Names of the files, in the order in which they are read."""

NAME = "file_name"
"""The key or column that says which image a row is about."""

TEXTS = ("text", "caption")
"""Those that hold the caption: the first of them that a row has."""

_PATTERNS = {
    "number": re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan", re.ASCII | re.IGNORECASE),
    "truth": re.compile("true|false", re.IGNORECASE),
}
"""What cells of a table, which are all text, may be read as."""


@dataclass(frozen=True)
class Record:
    """One row: the file and the line that it stands in, and what it holds by name, `file_name` among it."""

    where: str
    values: Mapping[str, Any]


def records(root: Path, path: Path) -> Iterator[Record | Skipped]:
    """The rows of one file, in its order, and in place of each that is none the reason.

    Args:
        root: the folder of images, without links in its own path.
        path: a file below it; nothing is given when it does not exist.
    """
    if not os.path.lexists(path):
        return
    where, data = printable(path.relative_to(root).as_posix()), content(root, path)
    if isinstance(data, Skipped):
        yield data
        return
    yield from (_objects if path.suffix == ".jsonl" else _table)(data.removeprefix(b"\xef\xbb\xbf"), where)


def content(root: Path, path: Path) -> bytes | Skipped:
    """The bytes of a file of the folder, or why it is not opened."""
    where = printable(path.relative_to(root).as_posix())
    if not inside(path, root):
        return Skipped(where, "a link that leads out of the folder")
    if not path.exists():
        return Skipped(where, "a link to nothing")
    if not path.is_file():  # a pipe would never end
        return Skipped(where, "not a regular file")
    try:
        return path.read_bytes()
    except OSError as error:
        return Skipped(where, f"cannot be read: {error.strerror}")


def inside(path: Path, root: Path) -> bool:
    """Whether a path leads to somewhere below the root, links followed."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def printable(name: str) -> str:
    """A file name that UTF-8 can write, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def writable(text: str) -> bool:
    """Whether UTF-8 can write it: JSON can hold half a character of UTF-16."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object) -> str:
    """A value from a file, cut short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def decoded(data: bytes, where: str, first: int = 1) -> str | Skipped:
    """The text of a file or of a line of it, or why there is none.

    Args:
        data: its bytes.
        where: the file.
        first: the number of the first line in it.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        return Skipped(f"{where} line {line}", f"not UTF-8 (byte {data[error.start]:#04x})")


# ------------------------------------------------------------------------------------------- JSON


def _objects(data: bytes, file: str) -> Iterator[Record | Skipped]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        text, where = decoded(line, file, number), f"{file} line {number}"
        yield text if isinstance(text, Skipped) else _object(text, where)


def _object(line: str, where: str) -> Record | Skipped:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Skipped(
            where, f"no JSON ({getattr(error, 'msg', error)}); right is an object with {NAME} and {TEXTS[0]}"
        )
    if not isinstance(found, dict) or not isinstance(found.get(NAME), str):
        return Skipped(where, f"names no image; right is an object with {NAME} and {TEXTS[0]}")
    return Record(where, found)


# -------------------------------------------------------------------------------------------- CSV


def _table(data: bytes, file: str) -> Iterator[Record | Skipped]:
    """Rows of the table; cells that are no UTF-8 keep their bytes as lone surrogates until they are refused."""
    lines = _cells(data.decode("utf-8", "surrogateescape"), file)
    head = next(lines, None)
    if head is None or isinstance(head, Skipped) or NAME not in head[1]:
        yield head if isinstance(head, Skipped) else Skipped(f"{file} line 1", f"has no column {NAME}")
        return
    names = head[1]
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        yield Skipped(head[0], f"has several columns {twice[0]!r}; the last counts")
    found = [line if isinstance(line, Skipped) else _record(names, *line) for line in lines]
    cells: dict[str, list[str]] = {}
    for row in found:
        for name, cell in row.values.items() if isinstance(row, Record) else ():
            cells.setdefault(name, []).append(cell)
    kinds = {name: _kind(column) for name, column in cells.items() if name not in (NAME, *TEXTS)}
    for row in found:
        if isinstance(row, Record):
            yield Record(row.where, {k: _value(v, kinds.get(k, "text")) for k, v in row.values.items()})
        else:
            yield row


def _cells(text: str, file: str) -> Iterator[tuple[str, list[str]] | Skipped]:
    """Where each row of the table begins, and its cells."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        where = f"{file} line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Skipped(where, f"no CSV ({error})")
            continue
        if cells:
            yield where, cells


def _record(names: list[str], where: str, cells: list[str]) -> Record | Skipped:
    if len(cells) != len(names):
        return Skipped(where, f"has {len(cells)} cells under {len(names)} columns")
    if not all(map(writable, cells)):
        return Skipped(where, "not UTF-8")
    values = {name: cell for name, cell in zip(names, cells, strict=True) if name and cell.strip()}
    return Record(where, values) if NAME in values else Skipped(where, "names no image")


def _kind(cells: list[str]) -> str:
    """What more than half of the cells of one column are."""
    for kind, pattern in _PATTERNS.items():
        if 2 * sum(bool(pattern.fullmatch(cell.strip())) for cell in cells) > len(cells):
            return kind
    return "text"


def _value(cell: str, kind: str) -> str | float | bool:
    """The cell as one of its column's kind, or as it stands where it is none."""
    if kind not in _PATTERNS or not _PATTERNS[kind].fullmatch(cell.strip()):
        return cell
    return float(cell) if kind == "number" else cell.strip().lower() == "true"
