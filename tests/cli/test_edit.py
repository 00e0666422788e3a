"""`reverie edit`: what it writes, and what it refuses in one sentence before anything is drawn."""

import numpy as np
import pytest
from PIL import Image
from told import untrained
from toys import cli, copied, trained

from reverie.cli.naming import finer, place_of
from reverie.config import registered
from reverie.denoiser import Denoiser
from reverie.editing import Method
from reverie.guidance import Guide
from reverie.pictures import read_metadata


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a picture, its mask and others are."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name, size in (("cat", (16, 16)), ("dog", (9, 20)), ("small", (4, 4)), ("eight", (8, 8))):
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / f"{name}.png")
    mask = np.zeros((16, 16), np.uint8)
    mask[:, 8:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask * 0).save(tmp_path / "black.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "cat.png").read_bytes()[:60])
    (tmp_path / "empty.png").touch()
    return tmp_path


def test_known_pixels_are_those_of_the_picture_bit_for_bit(folder):
    shown = cli("edit", trained(), "eight.png", "--box", "4,0,4,8", "--steps", 3, "-n", 3, "--out", "a.npz")
    assert shown.code == 0, shown
    assert "3 results, inpaint" in shown.out
    made = np.load("a.npz")["arr_0"]
    grey = np.asarray(Image.open("eight.png").convert("L"))
    assert np.array_equal(made[:, :, :4, 0], np.stack([grey[:, :4]] * 3))
    assert not np.array_equal(made[0], made[1])


@pytest.mark.parametrize("settings", [(), ("image_condition.kind=masked",)], ids=["method", "told"])
def test_a_sheet_in_the_run_tells_how_it_was_made(settings, folder):
    run = trained(*settings)
    words = ("--mask", "mask.png", "--label", "1,2", "-n", 4, "--seed", 7, "--steps", 2)
    shown = cli("edit", run, "cat.png", *words)
    assert shown.code == 0, shown
    path = next(p for p in (run / "edits").iterdir() if p.suffix == ".png")
    assert path.name.startswith("cat-told-mask-1,2-seed7" if settings else "cat-inpaint-mask-1,2-seed7")
    told = read_metadata(path)
    assert (told["picture"], told["seed"], told["labels"]) == ("cat.png", 7, [1, 2, 1, 2])
    assert told["edit"] == {"way": "told" if settings else "inpaint", "mask": "mask.png"}
    assert told["sampling"]["grid"]["steps"] == 2
    assert cli("edit", run, "cat.png", *words, "--out", "again.png").code == 0
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(Image.open("again.png")))


def test_single_pictures_and_an_animation(folder):
    words = ("--operator", "downsample:2", "-n", 3, "--steps", 2, "--label", "4")
    assert cli("edit", trained(), "small.png", *words, "--out", "single").code == 0
    names = sorted(p.name for p in (folder / "single").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png"]
    with Image.open(folder / "single" / names[1]) as one:
        assert (one.size, one.mode) == ((8, 8), "L")
    assert read_metadata(folder / "single" / names[1])["start"] == 1
    assert cli("edit", trained(), "cat.png", "--to", "dog.png", "-n", 4, "--steps", 3, "--out", "a.gif").code == 0
    with Image.open("a.gif") as moving:
        assert moving.n_frames == 6  # there and back


def test_a_run_that_is_told_a_whole_picture_is_told_it_unless_another_way_is_asked_for(folder):
    small = trained("image_condition.kind=low_resolution", "image_condition.factor=2")
    for words, way in (((), "told"), (("--strength", "0.5"), "redraw")):
        shown = cli("edit", small, "small.png", *words, "-n", 2, "--steps", 2, "--out", "a.npy")
        assert f"2 results, {way}" in shown.out
    assert "redraw" in cli("edit", trained(), "cat.png", "-n", 1, "--steps", 2, "--out", "a.npy").out


def test_settings_that_change_the_result_change_the_name(folder, tmp_path):
    run, words = copied(tmp_path / "run"), ("-n", 1, "--strength", 0.1)
    usual = ("--label", "3", "--steps", 2)
    assert cli("edit", run, "cat.png", *words).code == 0
    assert [p.name for p in (run / "edits").glob("cat-redraw*.png")] == ["cat-redraw-0_1-seed0-n1.png"]
    for more in ((), ("--guidance", 0), ("--guidance", 3), ("sampler.order=2",), ("--resize", "pad")):
        assert cli("edit", run, "cat.png", *words, *usual, *more).code == 0
    for origin in ("3", "4"):
        assert cli("edit", run, "cat.png", "-n", 1, "--steps", 2, "--invert", "--from-label", origin).code == 0
    found = [p for p in (run / "edits").glob("*.png") if "mask" not in p.name]
    assert len(found) == 1 + 5 + 2
    origins = [read_metadata(p)["edit"]["from"] for p in found if "invert" in p.name]
    assert sorted(o["label"][0] for o in origins) == ["3", "4"]
    assert finer({"a": 0.0}) != finer({"a": None}) == finer({"a": [], "b": False, "c": {}}) == ""


def test_a_name_has_no_more_bytes_than_a_file_may_have(folder):
    long = "\N{CAT FACE}ね" * 30
    Image.open("cat.png").save(f"{long[:40]}.png")
    result = cli("edit", trained(), f"{long[:40]}.png", "-n", 1, "--steps", 2, "--label", "3,4,5,6,7,8,9" * 9)
    assert "unknown label" in result.sentence
    labels = ",".join("0123456789" * 12)
    assert cli("edit", trained(), f"{long[:40]}.png", "-n", 1, "--steps", 2, "--label", labels).code == 0


def test_a_run_of_the_package_is_edited_and_judged_in_the_current_folder(folder, tmp_path, monkeypatch):
    shipped = tmp_path / "package"
    monkeypatch.setattr("reverie.runs.SHIPPED", shipped)
    run = copied(shipped / "tiny")
    before = {p.name for p in run.iterdir()}
    assert cli("edit", "tiny", "cat.png", "-n", 1, "--steps", 2, "--strength", 0.5).code == 0
    assert len(list(folder.glob("cat-redraw-*.png"))) == 1
    words = ("-n", 60, "--extractor", "pixels", "--metrics", "mmd", "--steps", 2, "--device", "cpu")
    result = cli("evaluate", "tiny", *words)
    assert result.code == 0, result
    assert len(list(folder.glob("*-n60-*.json"))) == 1
    assert {p.name for p in run.iterdir()} == before
    assert not (folder / "tiny").exists()
    assert place_of(folder / "tiny", "edits", "a.png") == folder / "tiny" / "edits" / "a.png"


def test_texts_are_written_beside_the_results(folder, tmp_path):
    run = untrained(tmp_path / "told", ("flat", "round"))
    words = ("-n", 2, "--steps", 2, "--prompt", "red", "--prompt", "the blue one", "--out", "a.npz")
    assert cli("edit", run.path, "cat.png", *words).code == 0
    assert np.load("a.npz")["texts"].tolist() == ["red", "the blue one"]


def test_a_model_that_never_went_without_a_class_is_spoken_of(folder):
    shown = cli("edit", trained("train.drop=0"), "cat.png", "-n", 1, "--steps", 2, "--out", "a.npy")
    assert "note: " in shown.err
    assert "train.drop=0" in shown.err


def test_guidance_that_leads_nowhere_is_spoken_of(folder):
    words = ("edit", trained(), "cat.png", "--strength", 0.5, "-n", 1, "--steps", 2, "--out", "a.npy")
    assert "does nothing: no sample is asked for anything" in cli(*words, "--guidance", 3).err
    assert "does nothing" not in cli(*words).err
    assert "does nothing" not in cli(*words, "--guidance", 3, "--label", 1).err


def test_a_picture_that_an_operator_cannot_have_left_is_refused_and_degraded_where_asked_for(folder):
    out = ("-n", 1, "--steps", 2, "--out", "a.npy")
    said = cli("edit", trained(), "eight.png", "--operator", "downsample:2", *out).sentence
    assert said.startswith("--operator downsample:2: eight.png has 8x8 pixels, and the operator leaves 4x4 of the 8x8")
    assert said.endswith("or --measure to have eight.png degraded first and that restored")
    for words in (("eight.png", "--operator", "downsample:2", "--measure"), ("cat.png", "--operator", "blur:1")):
        assert cli("edit", trained(), *words, *out).code == 0  # what is blurred is as large as before


def test_a_picture_in_colour_is_not_what_grey_leaves(folder, tmp_path):
    run, out = untrained(tmp_path / "told", ("flat", "round")).path, ("-n", 1, "--steps", 2, "--out", "a.npy")
    said = cli("edit", run, "cat.png", "--operator", "grey", *out).sentence
    assert "--operator grey: cat.png has colours, and the operator leaves none; give a picture that it left" in said
    Image.open("cat.png").convert("L").convert("RGB").save("grey.png")
    Image.open("grey.png").save("grey.jpg", quality=60)
    for words in (("cat.png", "--measure"), ("grey.png",), ("grey.jpg",)):
        assert cli("edit", run, *words, "--operator", "grey", *out).code == 0


def test_a_guide_is_asked_for_what_the_run_does_not_know(folder):
    guide = ("guide.kind=classifier", f"guide.run={trained('kind=classifier')}", "--guidance", 20)
    free, words = trained("labels=false"), ("cat.png", "--strength", 0.6, "--label", "3,4", "-n", 4, "--steps", 4)
    assert "was trained without labels" in cli("edit", free, *words, "--out", "a.png").sentence
    for out in ("a.png", "a.npz"):
        result = cli("edit", free, *words, *guide, "--out", out)
        assert result.code == 0, result
    assert read_metadata(folder / "a.png")["labels"] == np.load("a.npz")["arr_1"].tolist() == [3, 4, 3, 4]
    assert cli("edit", free, *words, *guide[:2], "--guidance", 0, "--out", "b.npz").code == 0
    assert not np.array_equal(np.load("a.npz")["arr_0"], np.load("b.npz")["arr_0"])


def test_the_help_lists_what_there_is():
    shown = " ".join(cli("edit", "--help").out.split())
    assert "Operators, with their number as downsample:4: blur (sigma), downsample (factor), grey." in shown
    assert "repaint (length, times)." in shown
    assert all(kind in shown for kind in (*registered(Method), *registered(Guide)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing.png"], "there is no picture nothing.png"),
        (["torn.png"], "torn.png is no picture that can be read"),
        (["empty.png"], "an empty file"),
        (["held-out:9999"], "held-out:0 to 179; given held-out:9999"),
        (["cat.png", "--mask", "small.png"], "has 4x4 pixels and the picture cat.png 16x16"),
        (["cat.png", "--mask", "none.png"], "there is no mask none.png"),
        (["cat.png", "--mask", "black.png"], "leaves nothing to be painted"),
        (["cat.png", "--mask", "mask.png", "--outpaint", "0,1,0,1"], "are two ways to edit a picture"),
        (["cat.png", "--strength", "0.5", "--to", "dog.png"], "--to and --strength are two ways"),
        (["cat.png", "--box", "0,0,4"], "--box is left,top,width,height in pixels"),
        (["cat.png", "--box", "9,9,9,9"], "--box: a box is left,top,width,height inside the picture of 16x16"),
        (
            ["cat.png", "--outpaint", "0,0,0,0"],
            "--outpaint 0,0,0,0: margins are pixels to add",
        ),
        (["cat.png", "--outpaint", "8,0,0,0"], "--outpaint 8,0,0,0: a window of 8x8 must hold some of the picture"),
        (["cat.png", "--strength", "1.5"], "--strength is the share of the steps"),
        (["cat.png", "--strength", "0"], "--strength is the share of the steps"),
        (["cat.png", "--to", "nowhere.png"], "there is no picture nowhere.png"),
        (
            ["cat.png", "--operator", "downsmaple:2"],
            "--operator downsmaple:2: unknown operator 'downsmaple'",
        ),
        (
            ["cat.png", "--operator", "downsample:3"],
            "--operator downsample:3: downsample by 3 needs sides",
        ),
        (["cat.png", "--operator", "downsample:x"], "--operator downsample:x: factor must be int; given 'x'"),
        (["cat.png", "--operator", "blur:1+blur:0"], "--operator blur:1+blur:0: blur needs a sigma above 0"),
        (["cat.png", "--operator", "grey:2"], "--operator grey:2: grey has no number"),
        (["cat.png", "--operator", "grey"], "--operator grey: the operator 'grey' acts on images in 3 colours"),
        (["cat.png", "--operator", "blur:1", "--noise=-1"], "--noise is a standard deviation of at least 0"),
        (["cat.png", "--operator", "blur:1", "--noise=inf"], "--noise is a standard deviation of at least 0"),
        (["held-out:0", "--operator", "blur:1"], "--operator blur:1: held-out:0 is a whole picture; give"),
        (["small.png", "--operator", "downsample:2", "--method", "repaint"], "take --method pigdm"),
        (["cat.png", "--mask", "mask.png", "--method", "repiant"], "--method repiant: unknown method 'repiant'"),
        (["cat.png", "--mask", "mask.png", "method.tmies=2"], "did you mean 'times'"),
        (
            ["cat.png", "--mask", "mask.png", "--method", "ddrm", "--sampler", "heun"],
            "--method ddrm is a sampler of its own; leave --sampler heun out",
        ),
        (["cat.png", "--sampler", "hoin"], "--sampler hoin: unknown sampler 'hoin'"),
        (["cat.png", "--grid", "unifrom"], "--grid unifrom: unknown grid 'unifrom'"),
        (["cat.png", "--guidance", "-1"], "--guidance must be at least 0; given -1"),
        (["cat.png", "--method", "ddrm"], "--method is how a mask or a measurement is heeded"),
        (["cat.png", "method.times=2"], "is a setting of a method"),
        (["cat.png", "--noise", "0.1"], "--noise belongs to --operator"),
        (["cat.png", "--measure"], "--measure belongs to --operator"),
        (
            ["cat.png", "--invert", "--sampler", "ancestral"],
            "--invert goes back to the noise, and the sampler anc",
        ),
        (["cat.png", "--to", "dog.png", "--sampler", "dpmpp_2m"], "--to goes back to the noise, and the sampler"),
        (["cat.png", "--from-label", "3"], "for --invert"),
        (["cat.png", "--invert", "--from-label", "33"], "unknown label '33'"),
        (["cat.png", "--label", "x"], "unknown label 'x'"),
        (["cat.png", "--prompt", "a cat"], "reads no text"),
        (["cat.png", "--with", "style=noto"], "knows no attribute 'style'"),
        (["cat.png", "--resize", "shrink"], "--resize is crop, pad, stretch"),
        (["cat.png", "-n", "0"], "-n must be at least 1; given 0"),
        (["cat.png", "--seed=-1"], "--seed must be at least 0; given -1"),
        (["cat.png", "--steps", "0"], "--steps must be at least 1; given 0"),
        (["cat.png", "--out", "a.gif"], "which is for --to"),
        (["cat.png", "--out", "a.jpg"], "stands for nothing here"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence_before_anything_is_drawn(words, message, folder, monkeypatch):
    run, before = trained(), sorted(folder.iterdir())
    monkeypatch.setattr(Denoiser, "forward", lambda *arguments: 1 / 0)
    out = [] if "--out" in words else ["--out", "made.png"]
    assert message in cli("edit", run, *words, *out).sentence
    assert sorted(folder.iterdir()) == before


def test_a_run_that_is_told_a_mask_asks_for_one(folder):
    said = cli("edit", trained("image_condition.kind=masked"), "cat.png").sentence
    assert "give --mask, --box or --outpaint, or another way" in said
