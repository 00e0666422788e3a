"""Variations: results share what the embedding says, and all else is noise; or one noise, and the embedding moves."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from embedded import EXAMPLES, SMALL, cascade, stirred, unclip
from helpers import close
from PIL import Image
from toys import MLP, cli

from reverie import config
from reverie.brownian import paths
from reverie.denoiser import Denoiser
from reverie.edits import Vary, Wish, drawing, edit
from reverie.edits.drawing import ROWS
from reverie.edits.scene import Scene
from reverie.edits.varying import TURN, decoder
from reverie.joint import spherical
from reverie.pictures import read_metadata
from reverie.runs import load
from reverie.synthesis import synthesize
from reverie.unclip import Prior, differed

TEXTS = ("a red square", "a blue square")
SMALL_ONE = torch.from_numpy(SMALL.items[3:4])
KINDS = {"alone": {}, "to": {"other": 3}, "texts": {"texts": TEXTS}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("varying")


@pytest.fixture(scope="module")
def run(folder):
    """A decoder of 4x4 pictures."""
    return unclip(folder / "run")


@pytest.fixture(scope="module")
def large(folder):
    """What enlarges a decoder's pictures to 8x8."""
    return cascade(folder / "large")


def picture(run, i=0):
    return torch.from_numpy((SMALL if run.facts.shape[1] == 4 else EXAMPLES).items[i : i + 1])


def way(run, kind="alone", strength=None):
    found = dict(KINDS[kind])
    if "other" in found:
        found["other"] = picture(run, found["other"])
    return Vary(picture(run), **found, strength=strength)


def quick(run, guidance=1.5):
    return run.settings(guidance=guidance)


def asked_for(run, vary, n, monkeypatch, wish=None):
    """What the network of a run is told at its first call and sees there, result by result, and the results."""
    seen, first = [], drawing._part

    def part(*args):
        scene = first(*args)
        seen.append(scene)
        return scene

    monkeypatch.setattr(drawing, "_part", part)
    made = edit(run, vary, wish or Wish(), n, seed=5, sampling=quick(run))
    conds = [scene.cond() for scene in seen]
    return conds, made


def embeddings(run, *pictures):
    return [run.joint.images(one) for one in pictures]


# --------------------------------------------------------------------------------- the embedding


def test_of_one_picture_all_have_its_embedding_and_noises_of_their_own(run, monkeypatch):
    (conds, made), (own,) = asked_for(run, way(run), 11, monkeypatch), embeddings(run, picture(run))
    assert len(conds) == 2
    assert all(torch.equal(cond.vector, own.expand(ROWS, -1)) for cond in conds)
    assert len({row.numpy().tobytes() for row in made}) == 11


def test_on_the_way_to_another_the_first_has_its_own_and_the_last_the_others(run, monkeypatch):
    (conds, made), (a, b) = asked_for(run, way(run, "to"), 11, monkeypatch), embeddings(
        run, picture(run), picture(run, 3))  # fmt: skip
    told = torch.cat([cond.vector for cond in conds])[:11]
    assert close(told[:1], a, 1e-5)
    assert close(told[-1:], b, 1e-5)
    for i, row in enumerate(told):
        assert close(row[None], spherical(a, b, i / 10), 1e-5)
    assert len({row.numpy().tobytes() for row in made}) == 11


def test_by_two_texts_it_turns_from_its_own_on(run, monkeypatch):
    (conds, _), (a,) = asked_for(run, way(run, "texts"), 5, monkeypatch), embeddings(run, picture(run))
    of, to = run.joint.texts(TEXTS)
    told = conds[0].vector
    assert close(told[:1], a, 1e-5)
    for i in range(5):
        assert close(told[i : i + 1], differed(a, of, to, TURN * i / 4), 1e-5)
    d = F.normalize(to - of, dim=0)
    along = F.normalize(told[:5], dim=1) @ d
    assert bool((along.diff() > 0).all())


@pytest.mark.parametrize("kind", ["to", "texts"])
def test_strength_is_how_far_it_is_moved(run, kind):
    whole = way(run, kind, 1.0).embedding(run, 8, 8)
    half = way(run, kind, 0.5).embedding(run, 8, 8)
    end = run.joint.images(picture(run, 3)) if kind == "to" else (lambda t: (t[1] - t[0])[None])(run.joint.texts(TEXTS))
    assert close(whole[-1:], math.sqrt(128) * F.normalize(end, dim=1), 1e-4)
    assert close(half[-1:], spherical(whole[:1], whole[-1:], 0.5), 1e-4)
    usual = way(run, kind).embedding(run, 8, 8)
    assert torch.equal(usual, whole if kind == "to" else half)


@pytest.mark.parametrize("kind", KINDS)
def test_one_result_has_the_pictures_own(run, kind):
    assert close(way(run, kind).embedding(run, 8, 1)[:1], embeddings(run, picture(run))[0], 1e-5)


def test_how_many_there_are_unless_told(run):
    assert [way(run, kind).number(Wish()) for kind in KINDS] == [8, 9, 9]
    assert way(run).number(Wish(prompt=["red"] * 12)) == 12


# -------------------------------------------------------------------------------------- the noise


def by_hand(run, vectors, noise, guidance=1.5):
    """Samples of the decoder told these embeddings, from the noise of these numbers."""
    made = []
    for vector, i in zip(vectors, noise, strict=True):
        asked = run.ask(1, [None], prompt="", embedding=vector[None])
        x = synthesize(run.denoiser, run.shape, quick(run, guidance), replace(asked, seed=5, start=i))
        made.append(run.space.decode(x))
    return torch.cat(made)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_samples_of_the_decoder_told_these_embeddings(run, kind):
    """Each of its own noise, or all of the noise of the first."""
    vary = way(run, kind)
    made = edit(run, vary, n=10, seed=5, sampling=quick(run))
    noise = range(10) if kind == "alone" else [0] * 10
    expected = by_hand(run, vary.embedding(run, 16, 10)[:10], noise)
    assert int((made.int() - expected.int()).abs().max()) <= 1
    assert float((made != expected).float().mean()) < 0.05


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_depends_on_how_many_are_drawn_at_a_time(run, large, kind, rows, monkeypatch):
    for of in (run, large):
        monkeypatch.setattr(drawing, "ROWS", ROWS)
        whole = edit(of, way(of, kind), n=10, seed=5, sampling=quick(of))
        monkeypatch.setattr(drawing, "ROWS", rows)
        other = edit(of, way(of, kind), n=10, seed=5, sampling=quick(of))
        assert int((whole.int() - other.int()).abs().max()) <= 1
        assert float((whole != other).float().mean()) < 0.05


def test_the_first_results_are_the_same_whatever_their_number(run, large):
    for of in (run, large):
        many = edit(of, way(of), n=10, seed=5, sampling=quick(of))
        assert torch.equal(edit(of, way(of), n=2, seed=5, sampling=quick(of)), many[:2])
        assert not torch.equal(edit(of, way(of), n=2, seed=6, sampling=quick(of)), many[:2])


@pytest.mark.parametrize("kind", ["to", "texts"])
def test_the_first_of_a_way_is_the_first_variation(run, large, kind):
    for of in (run, large):
        one = edit(of, way(of), n=1, seed=5, sampling=quick(of))
        other = edit(of, way(of, kind), n=4, seed=5, sampling=quick(of))[:1]
        assert int((one.int() - other.int()).abs().max()) <= 1


# ------------------------------------------------------------------------------------- a cascade


def test_the_decoder_of_a_cascade_is_its_lowest_run(run, large):
    assert decoder(run) is run
    assert decoder(large) is large.stage("base")


def test_a_large_picture_is_made_small_for_the_pair(run, large):
    assert torch.equal(way(large).embedding(large, 1, 1), way(run).embedding(large.stage("base"), 1, 1))


def test_what_enlarges_a_variation_is_given_the_decoders(large, monkeypatch):
    """Of the embedding, never of the prior; on the way to another, of one noise for all."""
    refuse = pytest.fail
    monkeypatch.setattr(Prior, "__call__", lambda *_: refuse("the prior was asked"))
    base = large.stage("base")
    for kind in KINDS:
        with monkeypatch.context() as own:
            conds, _ = asked_for(large, way(large, kind), 3, own)
        noise = range(3) if kind == "alone" else [0] * 3
        small = by_hand(base, way(large, kind).embedding(large, 8, 3)[:3], noise, base.recipe.sample.guidance)
        enlarged = large.recipe.image_condition.enlarged(large.space.encode(small))
        assert close(conds[0].image[:3], enlarged, 0.01)  # a step of 8 bits is 0.008
        assert not close(enlarged[:1], enlarged[1:2], 0.03)


def test_what_enlarges_has_another_noise_than_the_decoder(large, monkeypatch):
    """A result is a sample of the large run of that seed, told the embedding."""
    keys = []
    monkeypatch.setattr("reverie.edits.varying.paths", lambda found: (keys.append(found), paths(found))[1])
    edit(large, way(large), n=2, seed=5, sampling=quick(large))
    base = replace(large.stage("base").ask(8, embedding=torch.zeros(1, 128)), seed=5)
    assert not set(keys[0]) & set(base.keys)
    asked = replace(large.ask(8, [None], prompt="", embedding=torch.zeros(1, 128)), seed=5)
    assert keys[0] == asked.keys


def test_no_way_has_the_noise_of_what_is_drawn_below(large):
    asked = replace(large.ask(8, [None], prompt=""), seed=5)
    scene = Scene(large, quick(large), asked, 8, torch.device("cpu"))
    like = torch.zeros(8, 3, 8, 8)
    assert torch.equal(scene.noise().increment(like, 1.0, 0.0), paths(asked.keys).increment(like, 1.0, 0.0))


# --------------------------------------------------------------------------------- what is refused


def unused(*_, **__):
    raise AssertionError("the network was used")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"other": SMALL_ONE, "texts": TEXTS}, "varied towards another one, or by two texts; take one of them"),
        ({"texts": ("", "red")}, "a difference is that of two texts: give what the picture is of"),
        ({"texts": ("red", "  ")}, "a difference is that of two texts"),
        ({"strength": 0.5}, "by two texts, above 0 and up to 1; given 0.5 and neither of them"),
        ({"other": SMALL_ONE, "strength": 0.0}, "above 0 and up to 1; given 0$"),
        ({"texts": TEXTS, "strength": 1.5}, "above 0 and up to 1; given 1.5$"),
        ({"picture": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, r"is uint8 of shape \(1, 3, 4, 4\); given"),
        ({"other": torch.zeros(1, 3, 4, 4)}, r"is uint8 of shape \(1, 3, 4, 4\); given torch.float32"),
    ],
    ids=str,
)
def test_what_cannot_be_varied(run, settings, sentence, monkeypatch):
    monkeypatch.setattr(Denoiser, "forward", unused)
    with pytest.raises(ValueError, match=sentence):
        edit(run, Vary(**{"picture": picture(run), **settings}), n=2)


def test_a_run_that_is_told_no_embedding(run, folder):
    for other in (stirred(folder / "free", *MLP), run.stage("prior")):
        with pytest.raises(
            ValueError, match=r"was not trained on embeddings of images|pictures are edited by runs of im"
        ):
            edit(other, Vary(picture(run)), n=2)
    with pytest.raises(ValueError, match="train one with the recipe unclip, or take --strength"):
        edit(load(folder / "free"), Vary(picture(run)), n=2)


# -------------------------------------------------------------------------------- the command line


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, i in (("one", 0), ("two", 3)):
        Image.fromarray(EXAMPLES.items[i].transpose(1, 2, 0)).save(f"{name}.png")
    return tmp_path


QUICK = ("--steps", 3, "--guidance", 1.5)


def arrays(*words):
    shown = cli("edit", *words, "--out", "made.npz")
    assert shown.code == 0, shown
    return torch.from_numpy(np.load("made.npz")["arr_0"]).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("alone", ()),
        ("to", ("--to", "two.png")),
        ("texts", ("--from-prompt", TEXTS[0], "--prompt", TEXTS[1])),
    ],
)
def test_the_command_line_does_what_the_library_does(large, files, kind, words):
    made = arrays(large.path, "one.png", "--vary", "-n", 3, "--seed", 5, *QUICK, *words)
    assert torch.equal(made, edit(large, way(large, kind), n=3, seed=5, sampling=quick(large)))


def test_a_text_that_is_not_turned_to_is_told_besides(large, files):
    words = (large.path, "one.png", "--vary", "-n", 2, "--seed", 5, *QUICK)
    made = arrays(*words, "--prompt", "red")
    assert torch.equal(made, edit(large, way(large), Wish(prompt="red"), 2, seed=5, sampling=quick(large)))
    assert not torch.equal(made, arrays(*words))


def test_words_for_a_stage_change_how_it_draws(large, files):
    words = (large.path, "one.png", "--vary", "-n", 2, "--seed", 5, *QUICK)
    made = arrays(*words, "base.grid.steps=4", "base.guidance=3")
    assert not torch.equal(made, arrays(*words))
    again = load(large.path)
    again.sampling_below = {"base": again.stage("base").settings(steps=4, guidance=3.0)}
    assert torch.equal(made, edit(again, way(again), n=2, seed=5, sampling=quick(again)))


def test_a_sheet_and_an_animation_tell_how_they_were_made(large, files):
    words = ("edit", large.path, "one.png", "--vary", "--to", "two.png", *QUICK)
    shown = cli(*words, "-n", 3)
    assert shown.code == 0, shown
    assert "3 results, vary" in shown.out
    (path,) = (large.path / "edits").glob("one-vary-*two*-seed0-n3*.png")
    told = read_metadata(path)
    assert told["edit"] == {"way": "vary", "to": "two.png", "vary": True}
    assert told["base"]["grid"] == config.to_data(large.stage("base").settings().grid)
    assert cli(*words, "-n", 3, "--out", "a.gif").code == 0
    with Image.open("a.gif") as gif:
        assert gif.n_frames >= 3
    assert cli("edit", large.path, "one.png", "--vary", *QUICK, "--out", "b.gif").sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--vary", "--to", "two.png", "--from-prompt", "red", "--prompt", "blue"), "another one, or by two texts"),
        (("--vary", "--from-prompt", "red"), "a difference is that of two texts: give what the picture is of"),
        (("--vary", "--strength", "0.5"), "given 0.5 and neither of them"),
        (("--vary", "--strength", "1.5", "--to", "two.png"), "up to 1"),
        (("--vary", "--invert"), "--vary and --invert are two ways to edit a picture"),
        (("--vary", "--box", "0,0,2,2"), "--mask or --box and --vary are two ways"),
        (("--from-prompt", "red", "--strength", "0.5"), r"for --invert \(or --vary\); give that too"),
        (("--vary", "method.times=5"), "is a setting of a method"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_fit_each_other(large, files, words, sentence, monkeypatch):
    monkeypatch.setattr(Denoiser, "forward", unused)
    said = cli("edit", large.path, "one.png", *words, "--out", "x.png").sentence
    assert re.search(sentence, said), said
    assert not (files / "x.png").exists()
