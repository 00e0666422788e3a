"""A text is read once, and what was made of it is what is found."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from reverie.text import Pretrained, cache, hub
from reverie.text.cache import Piece, Store

TEXTS = ["a cat", "a red dog", "a blue blue cat", "dog", ""]


@pytest.fixture
def run(tiny, tmp_path):
    """A fitted encoder and the folder of its run."""
    return Pretrained(str(tiny["bert"].folder)).fit(TEXTS, tmp_path / "run"), tmp_path / "run"


@pytest.fixture
def forbid(monkeypatch):
    """From when it is called, no network may be loaded."""

    def refuse(folder, model):
        raise AssertionError("the network was loaded")

    return lambda: monkeypatch.setattr(hub, "network_of", refuse)


def files():
    return sorted(path for path in cache.folder().rglob("*") if path.is_file())


def rows(table):
    return table.rows(np.arange(len(table)))


def same(a, b):
    for name in ("tokens", "mask", "pooled", "drop"):
        assert torch.equal(getattr(a, name), getattr(b, name))


def test_a_second_table_loads_no_network(run, tiny, forbid, monkeypatch):
    encoder, folder = run
    first = rows(encoder.open(folder).table(TEXTS))
    assert len(files()) == 1
    forbid()
    monkeypatch.setitem(sys.modules, "transformers", None)
    shutil.move(tiny["bert"].folder, hidden := tiny["bert"].folder.with_name("gone"))
    try:
        same(rows(encoder.open(folder).table(TEXTS)), first)
        same(encoder.open(folder).encode(TEXTS), first)
        assert not encoder.open(folder).encode(["", " "]).mask.any()
        with pytest.raises(ValueError, match="is missing"):
            encoder.open(folder).table(["a new dog"])
    finally:
        shutil.move(hidden, tiny["bert"].folder)


def test_new_texts_are_added_and_prompts_are_not(run, forbid):
    encoder, folder = run
    opened = encoder.open(folder)
    opened.table(TEXTS[:2])
    opened.encode(["a prompt"])
    assert len(files()) == 1
    both = rows(opened.table(TEXTS))
    assert len(files()) == 2
    forbid()
    same(rows(opened.table(TEXTS)), both)


@pytest.mark.parametrize("change", [{"length": 9}, {"digest": "another"}, {"pooled": "cls"}])
def test_another_encoder_finds_nothing(run, forbid, change):
    encoder, folder = run
    encoder.open(folder).table(TEXTS)
    other = replace(encoder, **change)
    forbid()
    with pytest.raises((AssertionError, ValueError), match=r"loaded|trained with"):
        other.open(folder).table(TEXTS)


def test_another_tokenizer_of_the_same_words_finds_nothing(run, forbid):
    encoder, folder = run
    encoder.open(folder).table(TEXTS)
    path = folder / "tokenizer/tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "normalizer": None}))
    forbid()
    with pytest.raises(ValueError, match="is not the tokenizer that this run was trained with: its hash is"):
        encoder.open(folder)
    with pytest.raises(AssertionError, match="loaded"):  # of a run that does not say which it was
        replace(encoder, tokenizer="").open(folder).table(TEXTS)


def tampered(path, where):
    raw = bytearray(path.read_bytes())
    raw[where] ^= 1
    path.write_bytes(raw)


def test_damage_is_noticed_and_mended(run, forbid, caplog):
    """In the states of one text, in the keys, in the header; a file cut short, an empty one."""
    encoder, folder = run
    good = rows(encoder.open(folder).table(TEXTS))
    path = files()[0]
    whole = path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    said = json.loads(whole[8:start])
    places = [start + said[name]["data_offsets"][0] for name in ("states", "pooled", "keys", "ends", "sums")]
    for at in (*places, 9):
        caplog.clear()
        path.write_bytes(whole)
        tampered(path, at)
        same(rows(encoder.open(folder).table(TEXTS)), good)
        assert "damaged" in caplog.text
        caplog.clear()
        same(rows(encoder.open(folder).table(TEXTS)), good)
        assert "damaged" not in caplog.text, "the good one is found first"
        for other in set(files()) - {path}:
            other.unlink()
    for raw in (b"", whole[: len(whole) // 2]):
        path.write_bytes(raw)
        same(rows(encoder.open(folder).table(TEXTS)), good)
    forbid()
    same(rows(encoder.open(folder).table(TEXTS)), good)


def test_a_folder_that_cannot_be_written_costs_time_only(run, monkeypatch, tmp_path, caplog):
    encoder, folder = run
    good = rows(encoder.open(folder).table(TEXTS))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "file"))
    same(rows(encoder.open(folder).table(TEXTS)), good)
    assert "held in memory" in caplog.text


def piece(numbers, width=3):
    g = torch.Generator().manual_seed(0)
    states = [torch.randn(1 + n % 5, width, generator=g).half() for n in numbers]
    return Piece.of([f"text {n}" for n in numbers], states, torch.randn(len(numbers), width, generator=g).half())


def test_those_who_add_the_same_end_with_one_file():
    """Two processes at once: neither sees a part of the other's file, and what is mapped stays."""
    a, b = Store("key", 3, 3), Store("key", 3, 3)
    first = a.add(piece(range(10_000)))
    before = first.states.clone()
    second = b.add(piece(range(10_000)))
    b.add(piece(range(9_999, 10_050)))
    assert torch.equal(first.states, before)
    assert torch.equal(second.states, before)
    assert len(files()) == 2, "10,000 texts are no 10,000 files"
    found = a.find([f"text {n}" for n in (0, 7, 9_999, 10_049, 10_050)])
    assert sorted(found) == ["text 0", "text 10049", "text 7", "text 9999"]
    assert all(each.whole(k) for each, k in found.values())
    assert not list(cache.folder().rglob(".*")), "no temporary file is left"


def test_what_is_beyond_half_precision_is_its_end():
    x = torch.tensor([1e6, -1e6, 1.0])
    assert cache.halved(x).tolist() == [65504.0, -65504.0, 1.0]


def test_large_texts_go_into_several_pieces(run, monkeypatch):
    encoder, folder = run
    small = rows(encoder.open(folder).table(TEXTS))
    shutil.rmtree(cache.folder())
    monkeypatch.setattr("reverie.text.pretrained.LARGE", 10)
    monkeypatch.setattr("reverie.text.pretrained.AT_ONCE", 4)
    split = rows(encoder.open(folder).table(TEXTS))
    assert len(files()) == 4
    torch.testing.assert_close(split.tokens, small.tokens, rtol=2**-10, atol=2**-14)
