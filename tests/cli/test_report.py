"""`reverie report` and `reverie compare`: what they print and write, and their sentences."""

import numpy as np
import pytest
from audited import copying, law, pictures
from PIL import Image
from reported import full
from toys import cli, copied


def test_report_writes_page_and_card(tmp_path):
    run = full(tmp_path / "run")
    result = cli("report", run, "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [f"wrote {run / 'report.html'}", f"wrote {run / 'README.md'}"]
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert (run / "README.md").read_text().startswith("---\n")


def test_report_elsewhere_and_of_a_damaged_run(tmp_path):
    run = copied(tmp_path / "run")
    (run / "samples" / "00000000.png").write_bytes(b"x")
    (run / "README.md").write_text("mine")
    result = cli("report", run, "--out", tmp_path / "new" / "page.html", "--device", "cpu")
    assert result.code == 0
    assert result.out.splitlines() == [f"wrote {tmp_path / 'new' / 'page.html'}"]
    notes = result.err.splitlines()
    assert notes[0] == "note: samples/00000000.png: it is no whole PNG picture"
    assert notes[1] == f"note: {run / 'README.md'} was not written by Reverie, and is left as it is"
    assert not (run / "report.html").exists()


def test_report_without_weights(tmp_path):
    run = copied(tmp_path / "run")
    (run / "model.safetensors").unlink()
    assert cli("report", run).code == 0


def test_report_of_folders_of_images(tmp_path):
    training = pictures(150, 0)
    folders = {"made": copying(pictures(80, 2), training, 0.4, 1.0), "training": training, "held": pictures(100, 1)}
    for name, items in folders.items():
        (tmp_path / name).mkdir()
        for i, one in enumerate(items):
            Image.fromarray(one[0]).save(tmp_path / name / f"{i:03}.png")
    words = [tmp_path / name for name in folders]
    result = cli("report", *words, "--size", "8", "--extractor", "pixels", "--device", "cpu")
    assert (result.code, result.err) == (0, "")
    path = tmp_path / "made-report.html"
    assert result.out == f"wrote {path}\n"
    text = path.read_text()
    for said in ("Samples beside real examples", "<strong>memorises</strong>", "80 samples beside 150 real examples",
                 "sliced W", "samples and their nearest training examples", "--size 8"):  # fmt: skip
        assert said in text, said
    assert text.count("<img ") == 4
    assert "README" not in text
    assert not (tmp_path / "made" / "README.md").exists()


def test_report_of_arrays(tmp_path):
    for name, seed in (("made", 0), ("training", 1), ("held", 2)):
        np.save(tmp_path / f"{name}.npy", law(100, seed))
    words = [tmp_path / f"{name}.npy" for name in ("made", "training", "held")]
    for given, verdict in ((words, "no sign of memorising"), (words[:2], "cannot tell")):
        result = cli("report", *given, "-n", "60", "--out", tmp_path / "page.html", "--device", "cpu")
        assert (result.code, result.err) == (0, "")
        text = (tmp_path / "page.html").read_text()
        assert f"<strong>{verdict}</strong>" in text
        assert "60 samples beside 100 real examples" in text


def test_compare_prints_and_writes(tmp_path):
    a, b = full(tmp_path / "a"), full(tmp_path / "b", "train.lr=0.01")
    result = cli("compare", a, b, "--out", tmp_path / "c.html")
    assert (result.code, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines()]
    assert ["train.lr", "0.001", "0.01"] in lines
    assert any(line[:1] == ["parameters"] for line in lines)
    assert "FID (pixels)" in result.out
    assert result.out.endswith(f"wrote {tmp_path / 'c.html'}\n")
    assert (tmp_path / "c.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("report", "nowhere"), "not a run folder"),
        (("report", "RUN", "--out", "page.pdf"), "ending in .html; given 'page.pdf'"),
        (("report", "RUN", "digits"), "digits is one too many"),
        (("report", "RUN", "-n", "5"), "-n is one too many"),
        (("report", "a", "b", "c", "d"), "given 4 paths"),
        (("report", "a", "b", "-n", "1"), "at least 2 samples; given 1"),
        (("report", "nowhere", "digits"), "there is no data"),
        (("compare", "RUN"), "at least 2 runs; given 1"),
        (("compare", "RUN", "RUN"), "given twice"),
        (("compare", "RUN", "OTHER", "--out", "x.png"), "ending in .html"),
    ],
)
def test_sentences(words, said, tmp_path):
    names = {"RUN": copied(tmp_path / "run"), "OTHER": copied(tmp_path / "other")}
    assert said in cli(*(names.get(word, word) for word in words)).sentence
