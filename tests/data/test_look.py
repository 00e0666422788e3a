import json

import numpy as np
import pytest
from PIL import Image

from reverie.config import from_data, registered, to_data
from reverie.data import Arrays, Attribute, Data, Digits, Examples, Folder, Skipped, contact_sheet, look
from reverie.data.columns import LeftOut, kind


def saved(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return Arrays(str(tmp_path / "a.npz"))


def test_statistics_are_those_of_the_whole_array_in_float64(tmp_path):
    images = np.random.default_rng(0).integers(3, 250, (300, 3, 64, 80), np.uint8)  # several blocks
    found = look(saved(tmp_path, x=images))
    exact = images.astype(np.float64)
    for got, expected in (
        (found.low, exact.min((0, 2, 3))),
        (found.high, exact.max((0, 2, 3))),
        (found.mean, exact.mean((0, 2, 3))),
        (found.std, exact.std((0, 2, 3))),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_spread_survives_a_large_mean(tmp_path):
    values = (2.0**22 + np.random.default_rng(0).integers(0, 2, (5000, 1))).astype(np.float32)
    found = look(saved(tmp_path, x=values))
    assert found.std[0] == pytest.approx(values.astype(np.float64).std(), rel=1e-9)


def test_labels_duplicates_flat_images_damage_and_split(tmp_path):
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), np.uint8)
        path = tmp_path / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    (tmp_path / "a" / "copy.png").write_bytes((tmp_path / "a" / "04.png").read_bytes())
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(tmp_path / "b" / "flat.png")
    (tmp_path / "b" / "zero.png").write_bytes(b"")
    found = look(Folder(str(tmp_path)), validation=0.25)
    assert found.labels == {"a": 11, "b": 11}
    assert found.duplicates == (("a/04.png", "a/copy.png"),)
    assert found.flat == ("b/flat.png",)
    assert [s.path for s in found.skipped] == ["b/zero.png"]
    assert found.train + found.validation == found.count == 22
    assert abs(found.validation - 0.25 * 22) <= 1
    text = "\n".join(found.lines())
    twice = "1 spare copy in 1 group: a/04.png = a/copy.png"
    for part in ("22 images of shape 1 x 8 x 8, uint8", twice, "b/zero.png (an empty file)"):
        assert part in text


def test_a_long_series_is_one_channel_and_a_vector_one_a_number(tmp_path):
    assert len(look(saved(tmp_path, x=np.random.default_rng(0).normal(size=(30, 400)))).mean) == 1
    values = np.random.default_rng(0).normal(size=(30, 5))
    np.testing.assert_allclose(look(saved(tmp_path, x=values)).mean, values.astype(np.float32).mean(0, np.float64))


def test_contact_sheet_has_a_row_a_class_of_its_own_images(tmp_path):
    items = np.repeat(np.array([10, 90, 250], np.uint8), 4)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    labels = np.repeat(np.arange(3), 4)
    contact_sheet(Examples(items, labels, ("x", "y", "z"), image=True), tmp_path / "a.png", per_class=3)
    seen = np.asarray(Image.open(tmp_path / "a.png"))
    wide = 3 * (56 + 4)
    for row, value in enumerate((10, 90, 250)):
        middle = seen[4 + row * 60 + 28, -wide:]
        assert [tuple(middle[28 + i * 60]) for i in range(3)] == [(value,) * 3] * 3


def test_contact_sheet_shows_the_whole_range_of_the_data_and_reduces_large_images(tmp_path):
    items = np.arange(250, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), np.uint8)
    contact_sheet(Examples(items, image=True), tmp_path / "a.png", per_class=5)
    seen = np.asarray(Image.open(tmp_path / "a.png"))
    assert seen[10, 10, 0] == 0
    assert seen[-10, -10, 0] == 249
    big = Examples(np.zeros((1, 3, 512, 256), np.uint8), image=True)
    contact_sheet(big, tmp_path / "b.png")
    assert Image.open(tmp_path / "b.png").size == (64 + 8, 128 + 8)


def told(**values):
    items = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 16, 16), np.uint8)
    return Examples(items, image=True, **values)


def test_captions_and_attributes_are_told(tmp_path):
    numbers = np.array([[0, 1], [4, 3], [np.nan] * 2, *[[2, 2]] * 5], np.float32)
    examples = told(
        texts=("one", "", "a b c", "a b", "one", "\x1b[31m" + "x" * 90, "", "猫"),
        attributes=(kind("style", ["a", "b", None, *"bbbbb"]), Attribute("place", numbers)),
        troubles=(Skipped("b.txt line 2", "not UTF-8"), LeftOut("column 'id'", "free text")),
    )
    found = look(Digits(), examples=examples)
    assert found.captions.line() == ('6 of 1 to 3 words, median 1; 2 without; such as "one", "a b", "猫"')
    assert found.lines()[-5:] == [
        "captions    " + found.captions.line(),
        "attribute   style: 2 classes, a (1), b (6); 1 unknown",
        "attribute   place: 2 numbers, 0 to 4, mean 2; 1 unknown",
        "left out    column 'id': free text",
        "troubles    1: b.txt line 2: not UTF-8",
    ]
    only = look(Digits(), examples=told(texts=("\x1b[31m" + "x" * 90,) * 8)).captions.line()
    assert only == f'8 of 1 to 1 words, median 1; such as "[31m{"x" * 53}..."'
    assert look(Digits(), examples=told()).lines()[-1] == "captions    none"


def test_captions_stand_under_their_pictures(tmp_path):
    items = np.full((2, 3, 64, 64), 200, np.uint8)
    contact_sheet(Examples(items, image=True, texts=("red heart", "")), tmp_path / "a.png")
    seen = np.asarray(Image.open(tmp_path / "a.png"))
    assert seen.shape == (4 + 128 + 44 + 4, 4 + 2 * 132, 3)
    assert (seen[4:132, 4:132] == 200).all()
    below = seen[132:176]
    assert (below[:, 4:132] < 128).any()
    assert (below[:, 136:] == 255).all()


@pytest.mark.parametrize("shape", [(40, 1), (40, 2), (40, 7), (40, 100), (40, 2, 50), (40, 2, 5, 5)])
@pytest.mark.parametrize("labelled", [False, True])
def test_arrays_are_drawn_too(tmp_path, shape, labelled):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels, names = (np.arange(40) % 3, ("a", "b", "c")) if labelled else (None, ())
    contact_sheet(Examples(values, labels, names), tmp_path / "a.png")
    seen = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert (seen < 200).mean() > 0.002


def test_contact_sheet_needs_examples_and_a_png(tmp_path):
    with pytest.raises(ValueError, match="no examples"):
        contact_sheet(Examples(np.zeros((0, 2), np.float32)), tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"\.png; given"):
        contact_sheet(Digits().load(), tmp_path / "a.jpg")


@pytest.mark.parametrize(
    "data", [Digits(), Folder("x", size=(3, 4), channels=1), Folder("x", size=8, resize="pad"), Arrays("a.npz")]
)
def test_settings_survive_json(data):
    assert from_data(Data, json.loads(json.dumps(to_data(data))), "data") == data


def test_every_kind_is_registered():
    assert {"arrays", "digits", "fashion", "folder", "idx"} <= set(registered(Data))
