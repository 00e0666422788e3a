"""Files that are either written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write the yielded temporary file; it takes the place of `path` when the block ends.

    The temporary file is new and empty, lies in the folder of `path` (made if missing) and has the
    same suffix. At the end it is flushed to the disk, then renamed, which is one indivisible step:
    a reader sees the old file or the new one, never a part. When the block raises, the temporary
    file is removed and `path` is as it was.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(6)}.tmp{path.suffix}")
    os.close(os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the user's umask applies
    try:
        yield temp
        _flush(temp)
        temp.replace(path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder
        _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 with line feeds, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic(path) as temp:
        temp.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write `value` as indented JSON, whole or not at all; NaN and infinities are refused.

    Raises:
        OSError: the file cannot be written.
        TypeError: `value` holds something that JSON has no form for.
        ValueError: `value` holds a number that is not finite.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
