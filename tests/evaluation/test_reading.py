"""Which rows are read, and what is said of those that are not."""

import json

import numpy as np
import pytest
from PIL import Image

from reverie.evaluation.reading import read


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Twelve images, every third without a caption."""
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(12):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(root / f"{i:02}.png")
    rows = [{"file_name": f"{i:02}.png", "text": f"{20 * i}"} for i in range(12) if i % 3]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


@pytest.mark.parametrize("most", [None, 5])
def test_images_without_a_caption_are_left_out_where_captions_are_judged(pictures, most):
    found = read(pictures, most=most, captioned=True)
    assert [str(item[0, 0, 0]) for item in found.items] == list(found.captions)
    assert len(found) == (most or 8)
    assert found.about["without_caption"] == 4
    plain = read(pictures)
    assert (len(plain), plain.captions) == (12, ())
    assert "without_caption" not in plain.about


def test_where_no_image_has_a_caption_none_is_left_out(pictures):
    (pictures / "metadata.jsonl").unlink()
    found = read(pictures, captioned=True)
    assert (len(found), found.captions, dict(found.about)) == (12, (), {})
