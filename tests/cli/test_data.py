"""`reverie data` of a folder with captions."""

import json

import numpy as np
import pytest
from PIL import Image
from toys import cli


@pytest.fixture
def captioned(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    root.mkdir()
    for i in range(12):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8)).save(root / f"{i}.png")
    rows = [{"file_name": f"{i}.png", "text": f"number {i}", "odd": i % 2 == 1, "id": f"u{i}"} for i in range(12)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def test_captions_are_told_and_what_is_wrong_is_counted_or_refused(captioned):
    words = ("data", captioned, "--out", captioned.parent / "sheet.png")
    shown = cli(*words, "--strict")
    assert shown.code == 0
    assert 'captions    12 of 2 to 2 words, median 2; such as "number 0",' in shown.out
    assert "attribute   odd: 2 classes, false (6), true (6)" in shown.out
    assert "left out    column 'id': free text" in shown.out
    assert "troubles" not in shown.out
    with (captioned / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "gone.png", "text": "gone"}\n{')
    shown = cli(*words)
    assert shown.code == 0
    assert "troubles    2: metadata.jsonl line 13: names 'gone.png', which does not exist; " in shown.out
    said = cli(*words, "--strict").sentence
    assert "2 troubles" in said
    assert "metadata.jsonl line 13: names 'gone.png'" in said
    assert cli("data", captioned, "strict=true").sentence == said


def test_data_without_captions_may_be_looked_at_strictly(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("data", "digits", "--strict").code == 0
