"""The page: whole in itself, the same for the same run, escaped, and made of what the files say."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from reported import EVIL, evaluation, full, renamed, write
from toys import copied

from reverie.report import report
from reverie.runs import load

SECTIONS = ("model", "training", "samples", "denoising", "evaluation", "likelihood", "audit", "tuning", "reproduce")
VOID = {"meta", "img", "input", "br", "hr", "link"}


class Read(HTMLParser):
    """Tags with their attributes, ids, text outside of scripts and styles; complains of what is not closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.open, self.json = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" in self.open:
            self.json.append(data)
        elif "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def made(run):
    page = report(load(run), date="today").page
    return page.read_text(encoding="utf-8")


def picture(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return full(tmp_path_factory.mktemp("page") / "run")


@pytest.fixture(scope="module")
def page(run):
    return made(run)


def test_it_needs_nothing_else(page):
    read = Read(page)
    for tag, attrs in read.tags:
        for name in ("src", "srcset", "data", "poster", "action"):
            assert attrs.get(name, "data:").startswith("data:"), (tag, name)
        for name in ("href", "xlink:href"):
            assert attrs.get(name, "#").startswith("#"), (tag, name)
        assert tag not in ("link", "iframe", "object", "embed", "base")
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page
    assert len(page) < 5_000_000


def test_ids_are_unique_and_links_lead_somewhere(page):
    read = Read(page)
    ids = [attrs["id"] for _, attrs in read.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    aims = [attrs[name] for _, attrs in read.tags for name in ("href", "xlink:href") if name in attrs]
    aims += re.findall(r"url\((#[^)]*)\)", page)
    assert {aim[1:] for aim in aims} <= set(ids)
    assert [aim[1:] for aim in aims if not aim.startswith("#p")] == list(SECTIONS)


def test_the_same_run_makes_the_same_page(run, page):
    assert made(run) == page
    assert report(load(run), date="tomorrow").page.read_text() == page.replace("today", "tomorrow")


@pytest.mark.parametrize(
    "text",
    ["12.35 ± 0.12", "87.5 % ± 1.2 %", "3.25", "98.0 %", "biased upward", "too few samples", "2.346 ± 0.012",
     "no sign of memorising", "none of 4 tests", "0.8", "1,617", "protocol " + evaluation().id, "seed", "reverie tune",
     "FID", "ab12cd34", "2026-11-21 10:00 UTC"],
)  # fmt: skip
def test_it_says_what_was_measured(page, text):
    assert text in Read(page).text


def test_the_sheets_are_those_of_the_files(run, page):
    stills = [a for a in Read(page).all("img") if a["alt"].startswith("Samples at")]
    files = sorted((run / "samples").glob("*.png"))
    assert [a["alt"] for a in stills] == [f"Samples at step {int(f.stem):,}" for f in files]
    assert ["hidden" in a for a in stills] == [True] * (len(files) - 1) + [False]
    for still, file in zip(stills, files, strict=True):
        expected = np.asarray(Image.open(file).convert("RGB"))
        assert (picture(still["src"]) == expected).all()
        assert (int(still["width"]), int(still["height"])) == (expected.shape[1], expected.shape[0])


def test_every_slider_has_a_label_a_frame(page):
    labels = [json.loads(data) for data in Read(page).json[:2]]
    read = Read(page)
    ranges = [a for a in read.all("input") if a["type"] == "range"]
    assert [int(a["max"]) + 1 for a in ranges] == [len(one) for one in labels]
    for prefix, one in zip(
        (
            "Samples at ",
            "x, ",
        ),
        labels,
        strict=True,
    ):
        assert [a["alt"] for a in read.all("img") if a["alt"].startswith(prefix)] == [prefix + label for label in one]


def test_the_denoising_ends_in_the_run_s_samples(run, page):
    last = [a for a in Read(page).all("img") if a["alt"].endswith("the samples")]
    assert len(last) == 2
    opened = load(run)
    pixels = opened.sample(8, seed=0, sampling=opened.recipe.sample).numpy()
    for still in last:
        shown = picture(still["src"]).astype(int)
        scale = shown.shape[0] // 2 // 8
        for i, one in enumerate(pixels):
            top, left = (i // 4) * (8 * scale + 4) + 4, (i % 4) * (8 * scale + 4) + 4
            tile = shown[top : top + 8 * scale : scale, left : left + 8 * scale : scale, 0]
            assert abs(tile - one[0]).max() <= 1


def test_names_are_escaped(tmp_path):
    run = full(tmp_path / "a <img src=x> & run")
    renamed(run, 3, EVIL)
    found = evaluation()
    write(run / "evaluation" / "<b>bold.json", {**found.to_data(), "protocol": {"samples": {"note": EVIL}}})
    page = made(run)
    read = Read(page)
    assert EVIL in read.text
    assert "a <img src=x> & run" in read.text
    assert len(read.all("script")) == 3
    assert all("data:" in a["src"] for a in read.all("img"))
    assert "b" not in {tag for tag, _ in read.tags}


def test_damaged_pieces_are_named_and_cost_no_other(tmp_path):
    run = full(tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "lo')
    (run / "evaluation" / "second.json").write_text('{"format": 1, "numbers": [')
    write(run / "evaluation" / "third.json", {"format": 1, "protocol": {}, "numbers": [{"name": 3}]})
    write(run / "evaluation" / "new.json", {"format": 99, "protocol": {}, "numbers": []})
    write(run / "audit" / "zz.json", {"format": 1})
    write(run / "tuned.json", {"format": 1, "tunings": [3]})
    (run / "likelihood" / "x.json").write_bytes(b"\xff\xfe")
    (run / "likelihood" / "y.png").write_bytes(b"no picture")
    (run / "samples" / "00000006.png").write_bytes(b"no picture")
    written = report(load(run), date="today")
    assert {d.where for d in written.damage} == {
        "metrics.jsonl", "evaluation/second.json", "evaluation/third.json", "evaluation/new.json", "audit/zz.json",
        "tuned.json", "likelihood/x.json", "likelihood/y.png", "samples/00000006.png",
    }  # fmt: skip
    text = Read(written.page.read_text()).text
    assert "12.35 ± 0.12" in text
    assert "no sign of memorising" in text
    assert "Could not be read" in text


def test_a_run_that_has_nothing_says_so_with_the_commands(tmp_path):
    run = copied(tmp_path / "run")
    for name in ("metrics.jsonl", "model.safetensors"):
        (run / name).unlink()
    for sheet in (run / "samples").glob("*.png"):
        sheet.unlink()
    read = Read(made(run))
    for verb in ("train", "sample", "evaluate", "likelihood", "audit", "tune"):
        assert f"reverie {verb} " in read.text
    assert read.all("img") == []
    assert "Could not be read" not in read.text


@pytest.mark.parametrize(
    "settings",
    [
        ("data.kind=swissroll",),
        ("data.kind=two_moons",),
        ("schedule.kind=ve", "parameterization.kind=edm", "labels=false"),
    ],
    ids=["points", "classes", "exploding"],
)
def test_other_data_and_processes(settings, tmp_path):
    read = Read(made(copied(tmp_path / "run", *settings)))
    assert len([a for a in read.all("img") if a["alt"].startswith("predicted data")]) == 4
    assert ("divided by" in read.text) == ("schedule.kind=ve" in settings)


@pytest.mark.parametrize("shape", [(5,), (3, 40)], ids=["table", "series"])
def test_arrays(shape, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, *shape)).astype("f4"))
    read = Read(made(copied(tmp_path / "run", "data.kind=arrays", f"data.path={tmp_path / 'x.npy'}")))
    assert len([a for a in read.all("img") if a["alt"].startswith("predicted data")]) == 4
    assert f"arrays of shape {' × '.join(map(str, shape))}" in read.text


def test_at_most_24_sheets_the_first_and_last_among_them(tmp_path):
    run = copied(tmp_path / "run")
    sheet = (run / "samples" / "00000012.png").read_bytes()
    for step in range(13, 90):
        (run / "samples" / f"{step:08d}.png").write_bytes(sheet)
    alts = [a["alt"] for a in Read(made(run)).all("img") if a["alt"].startswith("Samples at")]
    assert len(alts) == 24
    assert (alts[0], alts[-1]) == ("Samples at step 0", "Samples at step 89")


def test_it_stays_light_whatever_the_sheets(tmp_path):
    run = copied(tmp_path / "run")
    random = np.random.default_rng(0)
    for step in range(14):
        Image.fromarray(random.integers(0, 256, (400, 400, 3), np.uint8)).save(run / "samples" / f"{step:08d}.png")
    page = made(run)
    assert len(page) < 5_000_000
    sheets = [a for a in Read(page).all("img") if a["alt"].startswith("Samples at")]
    assert len(sheets) == 14
    assert {(a["width"], a["height"]) for a in sheets} == {("400", "400")}
