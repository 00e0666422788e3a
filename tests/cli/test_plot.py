"""`reverie plot`: what its words mean, where its pictures go, what it refuses."""

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from toys import cli, copied, trained

from reverie import plots
from reverie.cli.plot import KINDS, Options, _bound, _example, _field, _forward, _process, _schedules, _words
from reverie.data import resolve
from reverie.pictures import read_metadata
from reverie.runs import load
from reverie.schedules import VE, Cosine, CosineBetas, LinearVP, Table
from reverie.tensors import host, streams

PLAIN = Options(label=None, index=0, seed=0, times=None)


def roll():
    """A run on points without classes."""
    return trained("swissroll", "data.count=400")


def moons():
    """A run on points of two classes."""
    return trained("two_moons", "data.count=400")


def with_bound(path, **bound):
    path.joinpath("likelihood").mkdir()
    path.joinpath("likelihood", "other.json").write_text('{"nats": 3}')
    path.joinpath("likelihood", "a.json").write_text(json.dumps({"bound": bound}))
    return path


BOUND = {"t": [0.5, 1.0], "nats_per_dim": [0.2, 0.1], "prior": 0.01, "decoder": 0.02, "more": "not ours"}


# --------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cosine"], {"cosine": Cosine()}),
        (["Linear-VP", "ve", "high=50.0"], {"Linear-VP": LinearVP(), "ve high=50.0": VE(high=50.0)}),
        (
            ["table betas.kind=cosine betas.steps=20", "table"],
            {"table betas.kind=cosine betas.steps=20": Table(CosineBetas(20)), "table": Table()},
        ),
        (["table", "betas=[0.1, 0.5]"], None),
        (["table", "betas={kind='given', betas=[0.1, 0.5]}"], {"": Table((0.1, 0.5))}),
        (["linear_vp beta_min=0.2", "beta_max=3.0"], {"linear_vp beta_min=0.2 beta_max=3.0": LinearVP(0.2, 3.0)}),
    ],
)
def test_settings_belong_to_the_name_before_them(words, expected):
    if expected is None:
        with pytest.raises(ValueError, match="betas"):
            _schedules(_words(words))
        return
    made = _schedules(_words(words))
    assert list(made.values()) == list(expected.values())
    assert "" in expected or list(made) == list(expected)


def test_a_run_folder_stands_for_its_schedule(tmp_path, monkeypatch):
    run = copied(tmp_path / "a run", "schedule.kind=cosine")
    assert _schedules(_words([str(run), "ve"])) == {"a run": Cosine(), "ve": VE()}
    monkeypatch.chdir(tmp_path)
    assert _schedules(_words(["a run"])) == {"a run": Cosine()}


def test_what_goes_to_noise(tmp_path, monkeypatch):
    digit, space = _example("digits", 3)
    assert np.array_equal(space.decode(digit).numpy(), resolve("digits").load().items[3:4])
    points, space = _example("swissroll", 0)
    assert points.shape == (3000, 2)
    assert float(points.mean().abs()) < 0.1
    assert float(points.std()) == pytest.approx(1, abs=0.05)
    own, space = _example(str(roll()), 0)
    assert space == load(roll()).space
    assert len(own) == 400
    photo = np.random.default_rng(0).integers(0, 256, (300, 200, 4), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    shown, space = _example(str(tmp_path / "photo.png"), 0)
    assert shown.shape == (1, 3, 128, 85)
    (tmp_path / "photo.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"photo\.png cannot be read: not an image"):
        _example(str(tmp_path / "photo.png"), 0)


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ([], ["linear", "cosine"]),
        (["digits"], ["linear", "cosine"]),
        (["ve"], ["ve"]),
        (["digits", "ve", "low=0.1", "cosine"], ["ve low=0.1", "cosine"]),
    ],
)
def test_rows_are_the_schedules_asked_for(words, rows):
    figure = _forward(words, PLAIN)
    assert [panel.get_ylabel().replace("\n", " ") for panel in figure.axes if panel.get_ylabel()] == rows
    assert len(figure.axes) == 9 * len(rows)


def test_a_run_goes_to_noise_under_its_own_schedule():
    figure = _forward([str(roll())], Options(None, 0, 5, (0.0, 0.5)))
    assert figure.axes[0].get_ylabel() == roll().name
    x0, _ = _example(str(roll()), 0)
    x = 0.5 * x0 + 0.5 * streams([(5, i) for i in range(400)])(x0)
    assert np.array_equal(np.asarray(figure.axes[1].collections[0].get_offsets()), x.double().numpy())


# ---------------------------------------------------------------------------------- in the plane


def test_the_field_is_that_of_the_network():
    figure = _field([str(roll())], Options(None, 0, 0, (0.25, 0.75)))
    run = load(roll())
    for panel, t in zip(figure.axes, (0.25, 0.75), strict=True):
        arrows = panel.collections[1]
        at = torch.from_numpy(np.asarray(arrows.get_offsets())).float()
        score = run.denoiser(at, host(t)).score
        assert np.allclose(np.stack([arrows.U, arrows.V], 1), score.numpy(), atol=1e-5)


def test_a_class_has_its_own_points_and_its_own_field():
    shown = {label: _field([str(moons())], Options(label, 0, 0, (0.01,))).axes[0] for label in (None, "upper", "1")}
    middle = {label: np.asarray(panel.collections[0].get_offsets()).mean(0) for label, panel in shown.items()}
    assert middle["upper"][1] > 0.3 > -0.3 > middle["1"][1]
    assert abs(middle[None][1]) < 0.2
    assert not np.allclose(shown["upper"].collections[1].U, shown["1"].collections[1].U)


def test_the_process_ends_at_the_data():
    figure = _process([str(roll())], PLAIN)
    assert len(figure.axes) == 12
    x0, _ = _example(str(roll()), 0)
    assert np.array_equal(np.asarray(figure.axes[0].collections[0].get_offsets()), x0.double().numpy())


def test_the_bound_is_the_newest(tmp_path):
    figure = _bound([str(with_bound(copied(tmp_path / "run"), **BOUND))], PLAIN)
    assert figure.axes[0].get_title() == f"variational bound: {0.33 / math.log(2):.4g} bits a dimension"


# --------------------------------------------------------------------------------------- files


def test_a_run_alone_is_drawn_whole(tmp_path):
    shown = cli("plot", run := copied(tmp_path / "points", "swissroll", "data.count=400"))
    assert shown.code == 0, shown
    assert [p.name for p in sorted((run / "plots").iterdir())] == ["field.png", "process.png", "schedule.png"]
    assert shown.out.count("wrote ") == 3
    run = with_bound(copied(tmp_path / "images"), **BOUND)
    assert cli("plot", run, "--out", tmp_path / "here").code == 0
    assert [p.name for p in sorted((tmp_path / "here").iterdir())] == ["bound.png", "schedule.png"]
    assert cli("plot", run, "--out", tmp_path / "one.png").code == 0
    assert read_metadata(tmp_path / "one.png")["plot"] == ["schedule", "images"]


def test_without_a_place_it_goes_to_the_run_or_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = copied(tmp_path / "run")
    assert cli("plot", "schedule", run).code == 0
    assert (run / "plots" / "schedule.png").exists()
    assert cli("plot", "schedule", run, "cosine").code == 0
    assert (tmp_path / "schedule.png").exists()


def test_a_picture_says_how_it_was_made(tmp_path):
    words = ("schedule", "cosine", "table", "betas.steps=10")
    assert cli("plot", *words, "--seed", 4, "--times", "0.5,1", "--out", tmp_path / "a.png").code == 0
    told = read_metadata(tmp_path / "a.png")
    assert told["plot"] == list(words)
    assert (told["seed"], told["times"], told["label"]) == (4, [0.5, 1.0], None)
    with Image.open(tmp_path / "a.png") as picture:
        assert (np.asarray(picture.convert("L")) < 200).mean() > 0.005


@pytest.mark.parametrize("ending", plots.ENDINGS)
def test_every_ending_is_written(ending, tmp_path):
    assert cli("plot", "forward", "digits", "cosine", "--times", "0,1", "--out", tmp_path / f"a{ending}").code == 0
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[ending]
    assert (tmp_path / f"a{ending}").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["schedule", "cosin"], r"unknown schedule 'cosin'; known: .*linear_vp.*did you mean 'cosine'"),
        (["schedule", "table", "betas.stepz=3"], r"unknown setting table\.betas\.stepz"),
        (["schedule", "cosine", "s=0.1"], r"unknown setting cosine\.s; cosine has: no settings"),
        (["schedule", "betas.kind=cosine"], "is a setting of a schedule; name one before it"),
        (["schedule"], "no schedule to draw"),
        (["schedule", "runs/none"], "there is no run folder 'runs/none'"),
        (["schedule", "cosine", "--out", "a.jpg"], r"\.png, \.svg or \.pdf; given 'a\.jpg'"),
        (["schedule", "cosine", "--out", "a"], r"\.png, \.svg or \.pdf; given 'a'"),
        (["nonsense"], "'nonsense' is no run folder, and no picture; a picture is one of: schedule, forward"),
        (["."], "is not a run folder"),
        (["forward", "nowhere"], "there is no data 'nowhere'"),
        (["forward", "digits", "--index", "5000"], "digits has examples 0 to 1796; given index 5000"),
        (["forward", "--index=-1"], "at least 0"),
        (["forward", "--times", "0,2"], r"\[0, 1\]"),
        (["forward", "--times", "0;1"], "numbers with commas between"),
        (["field"], "of one run folder; given none"),
        (["process", "a", "b"], "of one run folder; given a b"),
        (["field", "RUN", "--times", "0"], r"\(0, 1\]"),
        (["process", "RUN", "--times=-0.1"], r"\[0, 1\]"),
        (["process", "RUN", "--label", "3"], "was trained without labels"),
        (["field", "IMAGES"], "examples of shape 1x8x8; this picture is of runs on points in the plane"),
        (["process", "IMAGES"], "points in the plane, such as reverie train swissroll makes"),
        (["bound", "RUN"], "has no bound yet"),
        (["RUN", "cosine"], "a run alone is drawn whole"),
    ],
)
def test_what_means_nothing_is_refused_in_one_sentence(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stands = {"RUN": roll(), "IMAGES": trained()}
    assert re.search(message, cli("plot", *(stands.get(word, word) for word in words)).sentence)
    assert not list(tmp_path.iterdir())


def test_a_table_does_not_go_to_noise_here(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(20, 5)))
    assert "holds examples of shape 5" in cli("plot", "forward", tmp_path / "a.npy").sentence


@pytest.mark.parametrize(
    ("bound", "message"),
    [
        ({**BOUND, "t": [0.5]}, "given 2 terms and 1 times"),
        ({**BOUND, "prior": "x"}, r"bound\.prior must be float; given 'x'"),
        ({"t": [1.0]}, r"bound\.nats_per_dim is missing"),
    ],
)
def test_a_damaged_bound_is_named(bound, message, tmp_path):
    said = cli("plot", "bound", with_bound(copied(tmp_path / "run"), **bound)).sentence
    assert re.search(message, said)
    assert "a.json" in said


def test_every_kind_is_in_the_help():
    shown = cli("plot", "--help").out
    assert all(re.search(rf"\b{kind}\b", shown) for kind in KINDS)
