import json
import logging
import os
import shutil
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from reverie.data import Folder, cache, resolve


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, pixels, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode or None).save(path, **options)
    return path


def load(path, **settings):
    return Folder(str(path), **settings).load()


@pytest.fixture
def photos(tmp_path):
    """Twelve 8 x 6 colour images in three classes; their pixels by name."""
    root, made = tmp_path / "photos", {}
    for i in range(12):
        name = f"{'cab'[i % 3]}/deep{i % 2}/{i:02}.png"
        made[name] = noise(8, 6, 3, seed=i)
        write(root / name, made[name])
    return root, made


def test_pixels_names_and_classes(photos):
    root, made = photos
    found = load(root)
    assert found.sources == tuple(sorted(made))
    for item, name, label in zip(found.items, found.sources, found.labels, strict=True):
        assert np.array_equal(np.moveaxis(item, 0, -1), made[name])
        assert found.classes[label] == name[0]
    assert found.classes == ("a", "b", "c")


def test_second_load_decodes_nothing_and_gives_the_same(photos, monkeypatch):
    root, _ = photos
    (root / "a" / "bad.png").write_bytes(b"")
    first = load(root)

    def fail(*args, **kwargs):
        pytest.fail("an image was opened")

    monkeypatch.setattr(Image, "open", fail)
    second = load(root)
    assert isinstance(second.items, np.memmap)
    assert not second.items.flags.writeable
    assert np.array_equal(first.items, second.items)
    assert np.array_equal(first.labels, second.labels)
    assert first.sources == second.sources
    assert first.skipped == second.skipped != ()


def test_a_changed_file_a_new_file_and_other_settings_are_decoded_anew(photos):
    root, made = photos
    load(root)
    changed = root / sorted(made)[0]
    write(changed, 255 - made[sorted(made)[0]])
    os.utime(changed, ns=(1, 1))
    again = load(root)
    assert np.array_equal(np.moveaxis(again.items[0], 0, -1), 255 - made[sorted(made)[0]])
    write(root / "a" / "new.png", noise(8, 6, 3))
    assert len(load(root)) == 13
    assert load(root, channels=1).shape == (1, 8, 6)


def test_captions_are_read_anew_and_pixels_are_not(photos, cache, monkeypatch):
    root, made = photos
    assert load(root).texts == ()
    monkeypatch.setattr(Image, "open", lambda *args, **options: pytest.fail("an image was opened"))
    names = sorted(made)
    rows = [{"file_name": n, "text": f"a {n[0]}", "label": n[0], "place": [i, 1]} for i, n in enumerate(names)]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = load(root)
    assert found.texts == tuple(f"a {n[0]}" for n in found.sources)
    label, place = found.attributes
    assert (label.name, label.classes, label.values.tolist()) == ("label", found.classes, found.labels.tolist())
    assert place.values.tolist() == [[i, 1] for i in range(12)]
    rows[3]["text"] = "another"
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    again = load(root)
    assert [i for i, texts in enumerate(zip(found.texts, again.texts, strict=True)) if len(set(texts)) > 1] == [3]
    assert np.array_equal(found.items, again.items)
    assert len(list((cache / "images").glob("*.npy"))) == 1


def test_captions_follow_their_images_past_damaged_ones(photos, caplog):
    root, made = photos
    names = [*sorted(made), "b/bad.png"]
    (root / "b" / "bad.png").write_bytes(b"")
    rows = [json.dumps({"file_name": name, "text": name}) for name in names]
    (root / "metadata.jsonl").write_text("\n".join(rows))
    found = load(root, strict=True)
    assert found.texts == found.sources
    assert found.troubles == ()
    rows[3] = "{"
    (root / "metadata.jsonl").write_text("\n".join(rows))
    caplog.clear()
    found = load(root)
    assert [s.path for s in found.troubles] == ["metadata.jsonl line 4", names[3]]
    assert found.texts[3] == ""
    assert [r.getMessage()[:10] for r in caplog.records] == ["skipped 1 ", "2 troubles"]
    with pytest.raises(ValueError, match=r"2 troubles .* line 4: no JSON"):
        load(root, strict=True)


@pytest.mark.parametrize("damage", ["truncate", "flip", "header", "json", "short-json", "no-json"])
def test_a_damaged_cache_is_built_again(photos, cache, damage, caplog):
    root, _ = photos
    whole = np.array(load(root).items)
    (array,) = (cache / "images").glob("*.npy")
    note, content = array.with_suffix(".json"), bytearray(array.read_bytes())
    if damage == "truncate":
        array.write_bytes(content[:-7])
    elif damage in ("flip", "header"):
        content[-9 if damage == "flip" else 3] ^= 255
        array.write_bytes(content)
    elif damage == "json":
        note.write_text('{"kept": [0')
    elif damage == "short-json":
        note.write_text(json.dumps({**json.loads(note.read_text()), "kept": [0]}))
    else:
        note.unlink()
    assert np.array_equal(load(root).items, whole)
    assert ("is damaged" in caplog.text) == (damage != "no-json")
    caplog.clear()
    load(root)
    assert caplog.text == ""


def test_without_a_cache_folder_images_stay_in_memory(photos, tmp_path, monkeypatch, caplog):
    root, _ = photos
    whole = np.array(load(root).items)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "file"))  # no folder can be made below a file
    found = load(root)
    assert np.array_equal(found.items, whole)
    assert not found.items.flags.writeable
    assert "they are held in memory" in caplog.text


def test_on_a_full_disk_images_stay_in_memory_and_nothing_is_left_behind(photos, cache, monkeypatch, caplog):
    root, made = photos
    usage = shutil.disk_usage(root)
    monkeypatch.setattr("reverie.data.cache.shutil.disk_usage", lambda _: usage._replace(free=100))
    assert len(load(root)) == len(made)
    assert "No space left" in caplog.text
    assert list((cache / "images").iterdir()) == []


def bomb(width, height):
    """A PNG whose header promises many pixels."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_damaged_files_are_named_counted_and_skipped(photos, caplog):
    root, made = photos
    whole = write(root / "a" / "whole.jpg", noise(64, 64, 3)).read_bytes()
    (root / "a" / "whole.jpg").unlink()
    (root / "a" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "a" / "empty.png").write_bytes(b"")
    (root / "b" / "text.gif").write_text("not an image at all")
    (root / "b" / "bomb.png").write_bytes(bomb(30_000, 30_000))
    (root / "c" / "warning.png").write_bytes(bomb(10_000, 10_000))  # pillow only warns
    (root / "c" / "script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 6\n")
    (root / "c" / "notes.txt").write_text("no image by its name")
    with caplog.at_level(logging.WARNING, "reverie"), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = load(root)
    assert len(found) == len(made)
    reasons = {s.path: s.reason for s in found.skipped}
    assert sorted(reasons) == ["a/cut.jpg", "a/empty.png", "b/bomb.png", "b/text.gif", "c/script.png", "c/warning.png"]
    assert "truncated" in reasons["a/cut.jpg"]
    assert reasons["a/empty.png"] == "an empty file"
    assert "decompression bomb" in reasons["b/bomb.png"]
    assert "decompression bomb" in reasons["c/warning.png"]
    assert "not an image" in reasons["b/text.gif"]
    assert "not an image" in reasons["c/script.png"]  # PostScript would run ghostscript
    assert len(caplog.records) == 1
    assert "skipped 6 of 18 images" in caplog.text
    assert "a/cut.jpg" in caplog.text


def test_nothing_to_load_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there are no images in"):
        load(tmp_path / "empty")
    with pytest.raises(ValueError, match="there is no folder"):
        load(tmp_path / "gone")
    (tmp_path / "empty" / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"none of the 1 images .* a\.png: not an image"):
        load(tmp_path / "empty")


def test_links_out_of_the_folder_are_not_followed(photos, tmp_path):
    root, made = photos
    secret = write(tmp_path / "secret" / "s.png", noise(8, 6, 3))
    (root / "a" / "out.png").symlink_to(secret)
    (root / "outside").symlink_to(secret.parent)
    (root / "b" / "gone.png").symlink_to(root / "nothing.png")
    (root / "b" / "loop").symlink_to(root)
    (root / "b" / "inside.png").symlink_to(root / sorted(made)[0])
    found = load(root)
    assert "b/inside.png" in found.sources
    assert len(found) == len(made) + 1
    reasons = {s.path: s.reason for s in found.skipped}
    assert sorted(reasons) == ["a/out.png", "b/gone.png", "b/loop", "outside"]
    assert reasons["a/out.png"] == reasons["outside"] == "a link that leads out of the folder"
    assert found.classes == ("a", "b", "c")


def test_images_beside_class_folders_are_refused_and_loose_ones_have_no_labels(photos, tmp_path):
    root, _ = photos
    write(root / "loose.png", noise(8, 6, 3))
    with pytest.raises(ValueError, match=r"12 images in sub-folders, .* 1 outside them, such as loose\.png"):
        load(root)
    write(tmp_path / "flat" / "a.png", noise(8, 6, 3))
    found = load(tmp_path / "flat")
    assert found.labels is None
    assert found.classes == ()


def test_several_sizes_need_a_size(photos):
    root, _ = photos
    write(root / "a" / "wide.png", noise(10, 20, 3))
    with pytest.raises(ValueError, match=r"6 x 8 \(12\), 20 x 10 \(1\); .*data\.size=64 data\.resize=crop"):
        load(root)
    assert load(root, size=(5, 7)).shape == (3, 5, 7)


def halves(high, wide):
    """Left half red, right half blue, both dark in the top rows."""
    image = np.zeros((high, wide, 3), np.uint8)
    image[:, : wide // 2, 0] = image[:, wide // 2 :, 2] = 200
    return image


def test_crop_cuts_the_sides_pad_adds_bars_stretch_keeps_all(tmp_path):
    image = np.zeros((20, 60, 3), np.uint8)
    image[:, :20, 0] = image[:, 20:40, 1] = image[:, 40:, 2] = 200
    write(tmp_path / "a.png", image)
    crop = load(tmp_path, size=10).items[0]
    assert (crop[1, :, 2:-2] == 200).all()  # the filter looks past the edges of the crop
    assert not crop[[0, 2], :, 2:-2].any()
    pad = load(tmp_path, size=30, resize="pad").items[0]
    assert not pad[:, :10].any()
    assert not pad[:, 20:].any()
    assert (pad[:, 15, [4, 15, 25]] == np.diag([200] * 3)).all()
    stretch = load(tmp_path, size=30, resize="stretch").items[0]
    assert (stretch[:, 0, [4, 15, 25]] == stretch[:, 29, [4, 15, 25]]).all()
    assert (stretch[:, 15, [4, 15, 25]] == np.diag([200] * 3)).all()


def test_images_of_the_right_size_are_not_resampled(photos):
    root, made = photos
    for resize in ("crop", "pad", "stretch"):
        found = load(root, size=(8, 6), resize=resize)
        assert np.array_equal(np.moveaxis(found.items[0], 0, -1), made[sorted(made)[0]])


def test_exif_orientation_is_applied(tmp_path):
    upright = halves(8, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    write(tmp_path / "a.png", np.rot90(upright).copy(), exif=exif)
    write(tmp_path / "b.png", upright)
    found = load(tmp_path)
    assert np.array_equal(found.items[0], found.items[1])


COLOUR = noise(6, 6, 3)
GREY = noise(6, 6)


def luma(pixels):
    return pixels @ [0.299, 0.587, 0.114]


def grey_16(path):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(path)


def palette(path):
    picture = Image.fromarray(COLOUR).quantize(40)
    picture.save(path)
    assert Image.open(path).mode == "P"


def animated(path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert Image.open(path).n_frames == 2


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("a.png", lambda p: Image.fromarray(GREY).save(p), GREY[None]),
        ("a.png", lambda p: Image.fromarray(COLOUR).save(p), np.moveaxis(COLOUR, 2, 0)),
        ("a.png", lambda p: Image.fromarray(GREY).convert("RGB").save(p), GREY[None]),
        ("a.png", lambda p: Image.fromarray(GREY).convert("LA").save(p), GREY[None]),
        ("a.png", lambda p: Image.fromarray(COLOUR).convert("RGBA").save(p), np.moveaxis(COLOUR, 2, 0)),
        ("a.png", grey_16, GREY[None]),
        ("a.tif", grey_16, GREY[None]),
        ("a.png", lambda p: Image.fromarray(GREY > 99).save(p), 255 * (GREY > 99)[None].astype(np.uint8)),
        ("a.tif", lambda p: Image.fromarray(COLOUR).convert("CMYK").save(p), np.moveaxis(COLOUR, 2, 0)),
        ("a.gif", animated, GREY[None]),
        ("a.BMP", lambda p: Image.fromarray(COLOUR).save(p), np.moveaxis(COLOUR, 2, 0)),
    ],
)
def test_every_mode_is_read_exactly_with_the_fewest_channels(tmp_path, name, make, expected):
    make(tmp_path / name)
    found = load(tmp_path).items[0]
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


def test_palette_images_are_read_by_their_colours(tmp_path):
    palette(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        expected = np.moveaxis(np.asarray(picture.convert("RGB")), 2, 0)
    assert np.array_equal(load(tmp_path).items[0], expected)


def test_channels_grow_with_what_comes_and_lose_nothing(tmp_path):
    alpha = noise(6, 6, 4)
    for i in range(5):
        write(tmp_path / f"{i}.png", GREY)
    write(tmp_path / "5.png", COLOUR)
    write(tmp_path / "6.png", alpha)
    write(tmp_path / "7.png", GREY)
    items = load(tmp_path).items
    assert items.shape == (8, 4, 6, 6)
    for i in (0, 4, 7):
        assert (items[i, :3] == GREY).all()
    assert np.array_equal(items[5, :3], np.moveaxis(COLOUR, 2, 0))
    assert (items[[0, 5, 7], 3] == 255).all()
    assert np.array_equal(items[6], np.moveaxis(alpha, 2, 0))


def test_channels_asked_for(tmp_path):
    alpha = np.dstack([COLOUR, np.full((6, 6), 255, np.uint8)])
    alpha[:3, :, 3] = 0
    write(tmp_path / "a.png", alpha)
    flat = load(tmp_path, channels=3).items[0]
    assert (flat[:, :3] == 255).all()  # on white
    assert np.array_equal(flat[:, 3:], np.moveaxis(COLOUR, 2, 0)[:, 3:])
    grey = load(tmp_path, channels=1).items[0, 0]
    assert abs(grey[3:] - luma(COLOUR[3:])).max() <= 1
    write(tmp_path / "a.png", COLOUR)
    assert (load(tmp_path, channels=4).items[0, 3] == 255).all()


def test_padding_is_nothing_only_beside_transparency(tmp_path):
    clear = np.full((4, 8, 4), 200, np.uint8)
    write(tmp_path / "clear" / "a.png", clear)
    write(tmp_path / "solid" / "a.png", clear[..., :3])
    assert not load(tmp_path / "clear", size=8, resize="pad").items[0, 3, :2].any()
    assert load(tmp_path / "solid", size=8, resize="pad").shape == (1, 8, 8)


def test_hidden_files_are_left_out(photos):
    root, made = photos
    write(root / ".thumbs" / "a.png", noise(8, 6, 3))
    (root / "a" / "._x.png").write_bytes(b"resource fork")
    found = load(root)
    assert len(found) == len(made)
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size": 0}, "size is a number of pixels"),
        ({"size": (3, 4, 5)}, "height and width"),
        ({"resize": "squash"}, "one of crop, pad, stretch"),
        ({"channels": 2}, "1, 3 or 4"),
    ],
)
def test_settings_without_meaning_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Folder("somewhere", **settings)


def test_header_of_the_cache_has_room_for_any_count(tmp_path):
    for count in (1, 10**12):
        with (tmp_path / "a").open("wb") as file:
            cache._write_header(file, (count, 4, 4096, 4096))


@pytest.mark.parametrize("text", ["photos", "Digits"])
def test_resolve(photos, monkeypatch, text):
    monkeypatch.chdir(photos[0].parent)
    assert resolve(text).kind == {"photos": "folder", "Digits": "digits"}[text]


def test_resolve_says_what_is_possible(tmp_path):
    with pytest.raises(
        ValueError, match=r"no data 'digit'; data is one of .*digits, .*fashion, .*did you mean 'digits'"
    ):
        resolve("digit")
    write(tmp_path / "pictures" / "a.png", GREY)
    with pytest.raises(ValueError, match=r"did you mean '.*/pictures'"):
        resolve(str(tmp_path / "picture"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="a folder without images or idx files; data is one of"):
        resolve(str(tmp_path / "empty"))
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(ValueError, match="a file of another kind; data is one of"):
        resolve(str(tmp_path / "a.txt"))
