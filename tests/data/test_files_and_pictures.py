import json
import stat

import numpy as np
import pytest
from PIL import Image

from reverie import pictures
from reverie.files import atomic, write_json, write_text


def test_atomic_replaces_whole_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "one\n")
    write_text(path, "two é\n")
    assert path.read_bytes() == "two é\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_atomic_keeps_the_old_file_when_the_writer_fails(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail():
        with atomic(path) as temp:
            temp.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"bad": float("nan")})
    assert json.loads(path.read_text()) == {"old": 1}
    assert len(list(tmp_path.iterdir())) == 1


def test_atomic_files_have_the_permissions_of_ordinary_ones(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "atomic", "")
    modes = {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert len(modes) == 1


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_grid_places_every_pixel_as_a_block_in_reading_order():
    images = noise(5, 3, 4, 6)
    picture = np.asarray(pictures.grid(images, columns=3, scale=2, pad=1))
    assert picture.shape == (2 * 9 + 1, 3 * 13 + 1, 3)
    for i, image in enumerate(images):
        top, left = 1 + (i // 3) * 9, 1 + (i % 3) * 13
        block = picture[top : top + 8, left : left + 12]
        for dy in (0, 1):
            for dx in (0, 1):
                assert np.array_equal(block[dy::2, dx::2], np.moveaxis(image, 0, -1))
    assert (picture[10:18, 27:39] == 255).all()  # the sixth place is paper


def test_tiny_images_are_enlarged_and_large_ones_are_not():
    assert pictures.grid(noise(1, 1, 8, 8), pad=0).size == (56, 56)
    assert pictures.grid(noise(1, 1, 200, 100), pad=0).size == (100, 200)


def test_row_labels_stand_beside_their_rows():
    images = np.zeros((4, 1, 40, 40), np.uint8)
    bare = np.asarray(pictures.grid(images, columns=2, scale=1))
    labelled = np.asarray(pictures.grid(images, scale=1, row_labels=["cat", "dog"]))
    margin = labelled.shape[1] - bare.shape[1]
    assert np.array_equal(labelled[:, margin:], bare)
    ink = (labelled[:, :margin] < 200).any((1, 2))
    assert ink[4:44].any()
    assert ink[48:88].any()
    assert not ink[44:48].any()


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("text", ["one two three four five six seven", "x" * 300, "a b " * 30_000, "é" * 40, "", "a"])
def test_a_text_is_broken_to_fit_and_loses_only_its_middle(text, most):
    letters = pictures.font(11)
    found = pictures.lines(text, 120, letters, most)
    assert len(found) <= most
    assert all(letters.getlength(line) <= 120 for line in found)
    whole, shown = "".join(text.split()), "".join("".join(found).split())
    begins, dots, ends = shown.partition("...")
    assert whole == shown or (dots and whole.startswith(begins) and whole.endswith(ends) and ends)
    assert len(shown) > min(len(whole), 9) - 1


def test_texts_that_differ_in_their_last_word_are_still_told_apart():
    long = "a photograph of a cat that sleeps on a wooden table beside a window, in the style of "
    for most in (1, 2):
        a, b = (" ".join(pictures.lines(long + style, 240, pictures.font(16), most)) for style in ("noto", "twemoji"))
        assert a.endswith("noto")
        assert b.endswith("twemoji")


def test_what_has_no_letters_in_the_font_is_a_number():
    for text in ("красное сердце", "ένα", "café ñ", "red ☂"):
        assert pictures.legible(text, 3) == text
        assert all(letter.isspace() or pictures.font(30).getmask(letter).getbbox() for letter in text)
    assert pictures.legible("猫の顔", 3) == "#3"
    assert pictures.legible("a  red 猫 heart", 0) == "#0 a red heart"


def test_letters_of_other_scripts_are_no_boxes():
    """The glyph of a letter that a font has not is the same for all of them."""
    drawn = {bytes(pictures.font(40).getmask(letter)) for letter in "ЖΩñЩ"}
    assert len(drawn) == 4
    image = np.zeros((1, 1, 40, 40), np.uint8)
    assert pictures.sheet([image], row_labels=["  "]).size  # a label of which nothing is seen
    sheets = [np.asarray(pictures.sheet([image], row_labels=[text])) for text in ("Ж", "Щ")]
    assert sheets[0].shape != sheets[1].shape or (sheets[0] != sheets[1]).any()


def test_long_labels_stand_in_two_lines_where_there_is_room():
    text = "a photograph of a cat that sleeps on a wooden table"
    for high, wanted in ((64, 2), (16, 1)):
        image = np.zeros((1, 1, high, 64), np.uint8)
        seen = np.asarray(pictures.sheet([image], scale=1, row_labels=[text]).convert("L"))
        ink = (seen[:, : seen.shape[1] - 72] < 200).any(1)
        assert int((np.diff(ink.astype(int), prepend=0) == 1).sum()) == wanted


def test_transparent_pictures_lie_over_a_checkerboard():
    image = np.zeros((4, 32, 32), np.uint8)
    image[0], image[3, :16] = 255, 255
    seen = pictures.rgb(image)
    assert (seen[:16] == [255, 0, 0]).all()
    assert len(np.unique(seen[16:])) == 2


def test_wrong_images_are_refused_with_what_is_right():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        pictures.grid(noise(2, 8, 8))
    with pytest.raises(ValueError, match="N > 0"):
        pictures.grid(noise(0, 1, 8, 8))
    with pytest.raises(ValueError, match="uint8"):
        pictures.grid(np.zeros((1, 1, 8, 8), np.float32))
    with pytest.raises(ValueError, match="C 1, 3 or 4"):
        pictures.grid(noise(1, 2, 8, 8))


NOTE = {"seed": 3, "prompt": 'naïve ☂ {"x": 1}', "sampler": {"kind": "heun"}, "w": 1.5}


def test_png_keeps_pixels_and_metadata(tmp_path):
    picture = pictures.grid(noise(4, 3, 8, 8))
    pictures.save_png(picture, tmp_path / "a.png", NOTE)
    assert pictures.read_metadata(tmp_path / "a.png") == NOTE
    with Image.open(tmp_path / "a.png") as read:
        assert np.array_equal(np.asarray(read), np.asarray(picture))
        assert json.loads(read.text["reverie"]) == NOTE  # the chunk that the documentation promises


def test_pictures_without_or_with_damaged_metadata(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "plain.png")
    assert pictures.read_metadata(tmp_path / "plain.png") == {}
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ValueError, match="not a PNG"):
        pictures.read_metadata(tmp_path / "text.png")
    pictures.save_png(Image.new("L", (2, 2)), tmp_path / "a.png", {"seed": 12345})
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    chunks.add_text("reverie", '{"seed": ')
    Image.new("L", (2, 2)).save(tmp_path / "half.png", pnginfo=chunks)
    with pytest.raises(ValueError, match="damaged"):
        pictures.read_metadata(tmp_path / "half.png")


def test_metadata_without_a_json_form_leaves_no_file(tmp_path):
    with pytest.raises(TypeError):
        pictures.save_png(Image.new("L", (2, 2)), tmp_path / "a.png", {"x": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_animation_is_exact_and_its_last_frame_stays(tmp_path, suffix, channels):
    frames = [pictures.grid(noise(4, channels, 4, 4) // (i + 1) // 64 * 64) for i in range(3)]
    pictures.save_animation(frames, tmp_path / f"a{suffix}", fps=20, metadata=NOTE)
    assert pictures.read_metadata(tmp_path / f"a{suffix}") == NOTE
    with Image.open(tmp_path / f"a{suffix}") as read:
        assert read.n_frames == 3
        assert read.info["loop"] == 0
        durations = []
        for i, frame in enumerate(frames):
            read.seek(i)
            read.load()
            durations.append(read.info["duration"])
            assert np.array_equal(np.asarray(read.convert("RGB")), np.asarray(frame))
    assert durations == [50, 50, 1500]


def test_animation_refuses_what_it_cannot_write(tmp_path):
    frame = Image.new("RGB", (4, 4))
    with pytest.raises(ValueError, match=r"\.gif or \.webp"):
        pictures.save_animation([frame], tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="none"):
        pictures.save_animation([], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="one size"):
        pictures.save_animation([frame, Image.new("RGB", (5, 4))], tmp_path / "a.gif")
    with pytest.raises(ValueError, match="fps"):
        pictures.save_animation([frame], tmp_path / "a.gif", fps=0)
