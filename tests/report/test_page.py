"""The page: whole in itself, the same for the same run, escaped, and made of what the files say."""

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from reported import EVIL, evaluation, full, renamed, write
from toys import copied

from reverie.evaluation.numbers import Number
from reverie.report import card, judged, measured, report
from reverie.report.comparison import Comparison
from reverie.report.found import gather
from reverie.runs import load

SECTIONS = ("model", "training", "samples", "denoising", "evaluation", "likelihood", "audit", "tuning", "reproduce")
VOID = {"meta", "img", "input", "br", "hr", "link", "wbr"}


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


def judged_by(n, fid, date, name="kid"):
    found = evaluation(fid, n=n)
    numbers = (Number("fid", "FID", 1.0, "pixels"), Number(name, "KID", fid, "classifier", error=0.5))
    sampler = {"sampler": {"kind": "adams", "order": 4}, "steps": 20, "guidance": 1.5}
    protocol = {**found.protocol, "samples": {**found.protocol["samples"], **sampler}}
    return replace(found, numbers=numbers, protocol=protocol, about={"date": date})


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    run = copied(tmp_path_factory.mktemp("several") / "run")
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["train"]["steps"] = 5000
    config["recipe"]["evaluate"]["patience"] = 2
    write(run / "config.json", config)
    for i, (n, value) in enumerate(((1500, 7.5), (300, 2.5), (1500, 3.5), (20, 1.5))):
        write(run / "evaluation" / f"e{i}.json", judged_by(n, value, f"2026-11-2{i}T10:00:00+00:00").to_data())
    bits = judged_by(200, 9.0, "2026-11-20T10:00:00+00:00")
    numbers = (*bits.numbers, Number("bits_per_dim_ode", "bits/dim", 5.65, error=0.0325))
    protocol = {**bits.protocol, "likelihood": {"split": "validation", "examples": "64 of 180"}}
    write(run / "evaluation" / "bits.json", replace(bits, numbers=numbers, protocol=protocol).to_data())
    with (run / "metrics.jsonl").open("a") as file:
        told = {"id": "a1", "metric": "kid", "samples": {"n": 128}}
        file.write(json.dumps({"step": 4, "protocol": told}) + "\n")
        for step, value in ((4, 40.0), (8, 50.0), (12, 60.0)):
            one = {"metric": "kid", "extractor": "classifier", "value": value, "error": 1.0, "floor": 0.5}
            one |= {"best": step == 4, "protocol": "a1"}
            file.write(json.dumps({"step": step, "evaluation": one}) + "\n")
    return run


def test_the_main_evaluation_has_most_samples_and_is_the_newest_of_these(several):
    order = measured.ranked(gather(load(several)).evaluations)
    assert [name for name, _ in order] == ["e2", "e3", "e1", "e0", "bits"]
    main = measured.of_samples(order[0][1])
    assert [n.name for n in main] == ["kid", "fid"]
    text = Read(made(several)).text
    assert "KID (classifier) 3.50 ± 0.50 lower is better, 1,500 samples" in text
    assert text.count("1,500 samples, adams, 20 steps, guidance 1.5") == 2
    page = made(several)
    assert page.count('<details class="part">') == 4
    assert page.index("e2, protocol") < page.index('<details class="part">') < page.index("e3, protocol")


def test_likelihood_of_an_evaluation_stands_with_the_likelihood(several):
    page = made(several)
    section = Read("<div>" + page.split('<section id="likelihood">')[1].split("</section>")[0] + "</div>").text
    assert "5.650 ± 0.033" in section
    assert "validation, 64 of 180" in section
    assert "has not been measured" not in section
    assert "bits/dim" not in page.split('<section id="evaluation">')[1].split("</section>")[0]


def test_an_early_stop_is_said(several):
    assert (
        "Training stopped early, at step 12 of 5,000, after 2 evaluations without improvement."
        in Read(made(several)).text
    )
    assert "stopped early" in card.card(gather(load(several)))


def test_the_chart_of_evaluations_says_what_is_measured(several):
    text = Read(made(several)).text
    assert "KID in classifier, lower is better" in text
    assert "128 samples each; bars are standard errors; the ring is the best; protocol a1." in text


def test_points_of_a_curve_are_sorted_and_marked(tmp_path):
    def point(sampler, evaluations, value):
        number = {"title": "KID", "value": value, "extractor": "classifier", "better": "lower", "error": 0.25}
        return {"sampler": sampler, "steps": 3, "evaluations": evaluations, "seconds": 1.5, "number": number}

    data = {
        "points": [point("heun", 19, 2.0), point("ddim", 5, 4.0)],
        "pareto": {"evaluations": [1, 0], "seconds": [0]},
    }
    table = judged._curve(data)
    assert [row[:2] for row in table.rows] == [("ddim", "5"), ("heun", "19")]
    assert table.strong == {(0, 1), (1, 1), (1, 2)}
    assert judged._curve({"points": [3, {"number": 4}], "pareto": 3}) is None


def test_shares_of_an_audit_have_one_decimal(page):
    text = Read(page).text
    assert "1.2 % 0.4 % to 3.0 % 1.0 % 0.4 adjusted 0.8" in text


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


@pytest.mark.parametrize(
    "protocol",
    [
        {"samples": None}, {"samples": [1]}, {"samples": "x"}, {"samples": 3}, {"reference": [1]}, {"reference": "x"},
        {"samples": {"n": "many"}}, {"samples": {"n": [3]}, "reference": {"n": 3}},
        {"samples": {"n": 3}, "reference": {"n": {"a": 1}}}, {"samples": {"n": True}}, [["samples", 3]], 7,
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_damaged_protocol_is_named_and_costs_no_other(tmp_path, protocol):
    runs = [full(tmp_path / "run"), full(tmp_path / "other")]
    write(runs[0] / "evaluation" / "bad.json", {"format": 1, "numbers": [], "protocol": protocol})
    found = gather(load(runs[0]))
    assert [d.where for d in found.damage] == ["evaluation/bad.json"]
    assert list(found.evaluations) == ["first"]
    assert card.front_matter(found)["model-index"]
    Comparison([found, gather(load(runs[1]))]).page("today")


@pytest.mark.parametrize("points", [-1, True, 1e308, "x", {"a": 1}, None])
def test_a_curve_without_points_is_named(tmp_path, points):
    run = full(tmp_path / "run")
    write(run / "curves" / "bad.json", {"format": 1, "points": points})
    assert [d.where for d in report(load(run), date="today").damage] == ["curves/bad.json"]


def test_a_number_that_no_float_holds_is_shown_as_it_is(tmp_path):
    run = full(tmp_path / "run")
    found = evaluation().to_data()
    write(run / "evaluation" / "large.json", {**found, "protocol": {**found["protocol"], "large": 10**400}})
    write(run / "evaluation" / "worse.json", {**found, "numbers": [{**found["numbers"][0], "value": 10**400}]})
    written = report(load(run), date="today")
    assert [d.where for d in written.damage] == ["evaluation/worse.json"]
    assert "1" + 400 * "0" in written.page.read_text()


def test_curves_are_in_the_order_of_their_dates(tmp_path):
    run = full(tmp_path / "run")
    number = {"name": "kid", "title": "KID", "value": 0.5}
    for i in (3, 0, 4, 1, 2):
        about = {"date": f"2026-11-2{i}T10:00:00+00:00"}
        write(
            run / "curves" / f"{'edcba'[i]}.json", {"points": [{"sampler": "ddim", "number": number}], "about": about}
        )
    assert list(gather(load(run)).curves) == ["e", "d", "c", "b", "a"]


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
