"""`reverie report` and `reverie compare`: what they print and write, and their sentences."""

import pytest
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
        (("compare", "RUN"), "at least 2 runs; given 1"),
        (("compare", "RUN", "RUN"), "given twice"),
        (("compare", "RUN", "OTHER", "--out", "x.png"), "ending in .html"),
    ],
)
def test_sentences(words, said, tmp_path):
    names = {"RUN": copied(tmp_path / "run"), "OTHER": copied(tmp_path / "other")}
    assert said in cli(*(names.get(word, word) for word in words)).sentence
