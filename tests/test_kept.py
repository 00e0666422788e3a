"""Numbers that are computed once: what is not in `tests/test_latents.py`."""

import numpy as np
import pytest

from reverie import kept as module
from reverie.kept import CHUNK, kept, key_of


def counted(asked):
    def part(rows):
        asked.append(rows)
        return np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] * [1, 2]

    return part


def test_parts_are_computed_once_in_their_order(tmp_path):
    n, asked = 2 * CHUNK + 3, []
    first = kept(tmp_path / "a.npy", (n, 2), counted(asked), "numbers")
    again = kept(tmp_path / "a.npy", (n, 2), counted(asked), "numbers")
    assert asked == [slice(0, CHUNK), slice(CHUNK, 2 * CHUNK), slice(2 * CHUNK, n)]
    assert np.array_equal(first, np.arange(n)[:, None] * [1, 2])
    assert np.array_equal(first, again)


def test_an_error_of_what_computes_is_no_fault_of_the_disk(tmp_path):
    """The data may lie on a disk of their own; nothing is begun again for that, and nothing left behind."""
    calls = []

    def fails(rows):
        calls.append(rows)
        raise OSError(5, "cannot read the data")

    with pytest.raises(OSError, match="cannot read the data"):
        kept(tmp_path / "a.npy", (4, 2), fails, "numbers")
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_numbers_whose_note_cannot_be_written_are_still_there(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(28, "no space left")

    monkeypatch.setattr(module, "write_json", full)
    found = kept(tmp_path / "a.npy", (3, 2), counted([]), "numbers")
    assert np.array_equal(found, np.arange(3)[:, None] * [1, 2])


def test_the_key_is_of_every_byte_and_of_what_is_done():
    items = np.arange(2 * CHUNK + 1, dtype=np.int64)[:, None]
    keys = {key_of(items, "a"), key_of(items, "b"), key_of(items.reshape(1, -1), "a"), key_of(items.astype(float), "a")}
    for at in (0, CHUNK, 2 * CHUNK):
        other = items.copy()
        other[at] += 1
        keys.add(key_of(other, "a"))
    assert len(keys) == 7
    assert key_of(items.copy(), "a") in keys
