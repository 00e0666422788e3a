"""`reverie train` of several models at once, what other commands make of them, and what is refused in a sentence."""

import json
import os
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from staged import AUTOENCODER, CASCADE, autoencoder, begun_autoencoder, images
from toys import MLP, SHORT, KillAt, cli, hashes, outcome, process

from reverie.cli import train
from reverie.pictures import read_metadata
from reverie.runs import CONFIG, load

SMALL = [word for word in AUTOENCODER if not word.startswith("kind=")]
ON_LATENTS = ("latent_diffusion", "digits", *MLP, *SHORT)
LATENT = (*ON_LATENTS, *(f"stages.autoencoder.{word}" for word in (*SMALL, *SHORT)))
PLANS = {"cascade": (CASCADE, "base"), "latent": (LATENT, "autoencoder")}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REVERIE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def trained_plans(tmp_path_factory):
    """Finished runs of both plans, with what was said; not to be changed."""
    home, found = tmp_path_factory.mktemp("plans"), {}
    for name, (words, _) in PLANS.items():
        done = cli("train", *words, "--out", home / name)
        assert done.code == 0, done
        found[name] = (home / name, done.out)
    return found


@pytest.fixture
def plan(trained_plans, tmp_path):
    """A copy of one of them."""
    return lambda name: Path(shutil.copytree(trained_plans[name][0], tmp_path / name))


def stopped(monkeypatch, run, step):
    """Ctrl-C after a step of the run-th of the runs that are trained."""
    told, shown = train._plain, []

    def plain(reports):
        shown.append(reports)
        mine = len(shown) == run
        for report in told(reports):
            if mine and report.step == step:
                os.kill(os.getpid(), signal.SIGINT)
            yield report

    monkeypatch.setattr(train, "_plain", plain)


def whole(run, stage):
    return {"run": outcome(run), "stage": outcome(run / stage)}


# ------------------------------------------------------------------------------------- training


@pytest.mark.parametrize("name", PLANS)
def test_one_command_trains_the_stage_and_then_the_run(trained_plans, name):
    (run, said), stage = trained_plans[name], PLANS[name][1]
    assert f"stage {stage} of {run}" in said
    assert said.index(f"run {run / stage}: ") < said.index(f"run {run}: ")
    assert said.splitlines()[-1].startswith(f"done: {run}. ")
    assert [each.name for each in load(run).facts.stages] == [stage]
    assert load(run / stage).recipe.kind == {"base": "denoiser", "autoencoder": "autoencoder"}[stage]
    assert {p.name for p in (run / stage / "samples").iterdir()} == {"00000000.png", "00000012.png"}
    assert load(run).sample(2).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("which", [1, 2], ids=["in the stage", "in the run"])
def test_stopped_anywhere_and_begun_again_it_ends_as_if_it_had_not_been(
    trained_plans, monkeypatch, tmp_path, name, which
):
    words, stage = PLANS[name]
    run, path = tmp_path / "run", trained_plans[name][0]
    with monkeypatch.context() as patch:
        stopped(patch, which, 7)
        first = cli("train", *words, "--out", run)
    assert first.code == 128 + signal.SIGINT, first
    assert "stopped at step 8 by SIGINT" in first.out
    assert (run / CONFIG).exists() == (which == 2)
    before = hashes(run / stage)
    second = cli("train", *words, "--out", run)
    assert second.code == 0, second
    assert "resuming at step 8 of 12" in second.out
    assert whole(run, stage) == whole(path, stage)
    if which == 2:
        assert hashes(run / stage) == before
    assert not list(run.rglob(".*.*"))


@pytest.mark.parametrize("n", [20, 125], ids=["in the stage", "in the run"])
def test_killed_while_it_writes_its_nth_file_it_ends_so_too(trained_plans, tmp_path, n):
    words, run = CASCADE, tmp_path / "run"
    with process("train", *words, "--out", run, log=tmp_path / "log", first=KillAt(n)) as child:
        child.join(60)
    assert child.exitcode == -9, (tmp_path / "log").read_text()
    assert (run / CONFIG).exists() == (n == 125)
    assert cli("train", *words, "--out", run).code == 0
    assert whole(run, "base") == whole(trained_plans["cascade"][0], "base")
    assert not list(run.rglob("*.tmp*"))


def test_a_finished_one_is_left_as_it_is(plan):
    run = plan("cascade")
    before = hashes(run)
    again = cli("train", *CASCADE, "--out", run)
    assert again.code == 0
    assert again.out.count("finished at step 12 already") == 2
    assert hashes(run) == before


def test_a_run_goes_on_further_than_its_stage(plan):
    run = plan("cascade")
    before = hashes(run / "base")
    done = cli("train", *CASCADE, "train.steps=14", "--out", run)
    assert done.code == 0, done
    assert "finished at step 12 already" in done.out
    assert "resuming at step 12 of 14" in done.out
    assert hashes(run / "base") == before


def test_a_stage_that_is_trained_already_is_copied(trained_plans, tmp_path):
    source = Path(shutil.copytree(trained_plans["cascade"][0] / "base", tmp_path / "small"))
    words = ("cascade", "digits", *MLP, *SHORT, f"stages.base={source}")
    run = tmp_path / "run"
    done = cli("train", *words, "--out", run)
    assert done.code == 0, done
    assert "stage base of" not in done.out
    assert outcome(run) == outcome(trained_plans["cascade"][0])
    assert not (run / "base" / "state").exists()
    again = cli("train", *words, "--out", run)
    assert "finished at step 12" in again.out
    shutil.rmtree(source)
    assert f"is missing; {run} has a copy of it, so name that: {run / 'base'}" in cli(
        "train", *words, "--out", run).sentence  # fmt: skip
    there = [f"stages.base={run / 'base'}" if word.startswith("stages.") else word for word in words]
    assert "finished at step 12" in cli("train", *there, "--out", run).out


def test_an_autoencoder_trained_before_is_the_same_as_one_trained_on_the_way(trained_plans, tmp_path):
    source = trained_plans["latent"][0] / "autoencoder"
    run = tmp_path / "run"
    done = cli("train", *ON_LATENTS, f"space.autoencoder={source}", "--out", run)
    assert done.code == 0, done
    assert outcome(run)["model"] == outcome(trained_plans["latent"][0])["model"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("train.steps=14", "train.steps is 12 there and 14 here"),
        ("loss.kl=0.5", "loss.kl is 0.02 there and 0.5 here"),
        ("autoencoder.channels=2", "autoencoder.channels is 3 there and 2 here"),
    ],
)
def test_what_a_run_has_learned_with_is_not_trained_on_by_its_command(plan, word, sentence):
    run = plan("latent")
    before, x = hashes(run), load(run).sample(2, seed=1)
    said = cli("train", *LATENT, f"stages.autoencoder.{word}", "--out", run).sentence
    assert f"{run} has learned with its stage autoencoder, which can be no other now: {sentence}" in said
    assert hashes(run) == before
    assert load(run).sample(2, seed=1).equal(x)


def test_a_run_goes_on_with_what_it_has_learned_with(plan, monkeypatch):
    """Which is not even opened as something to train: its data are loaded once, for the run."""
    from reverie.data import Digits

    run = plan("latent")
    before, loaded, load_digits = hashes(run / "autoencoder"), [], Digits.load
    monkeypatch.setattr(Digits, "load", lambda self: loaded.append(1) or load_digits(self))
    words = ("train.steps=14", "stages.autoencoder.train.log_every=1", "train.report_to=[]")
    done = cli("train", *LATENT, *words, "--out", run)
    assert done.code == 0, done
    assert "resuming at step 12 of 14" in done.out
    assert len(loaded) == 1
    assert hashes(run / "autoencoder") == before


def test_nor_by_commands_of_its_own(plan):
    run = plan("latent")
    stage, before = run / "autoencoder", hashes(run)
    further = ("train", "digits", *AUTOENCODER, *SHORT, "loss.kl=0.02", "train.steps=14", "--out", stage)
    for words in (further, ("ema", stage)):
        said = cli(*words).sentence
        assert f"{stage} is the autoencoder that {run} has learned with" in said
    assert hashes(run) == before
    apart = Path(shutil.copytree(stage, run.with_name("apart") / "autoencoder"))
    assert "resuming at step 12 of 14" in cli(*further[:-1], apart).out
    assert cli("ema", apart).code == 0


def test_a_base_may_be_trained_on_by_either_command(plan):
    run = plan("cascade")
    further = (word.replace("train.steps=12", "train.steps=14") for word in CASCADE if word != "train.steps=12")
    done = cli("train", *further, "train.steps=12", "--out", run)
    assert done.code == 0, done
    assert "resuming at step 12 of 14" in done.out
    assert cli("ema", run / "base").code == 0


def test_a_classifier_is_trained_for_an_autoencoder_that_it_judges(tmp_path):
    run, judge = tmp_path / "run", tuple(f"stages.perceptual.{word}" for word in (*MLP, *SHORT))
    words = ("digits", *AUTOENCODER, *SHORT, "loss.perceptual=stage", *judge)
    done = cli("train", *words, "--out", run)
    assert done.code == 0, done
    assert load(run / "perceptual").recipe.kind == "classifier"
    assert [each.name for each in load(run).facts.stages] == ["perceptual"]
    again = cli("train", *words, "--out", run)
    assert "finished at step 12 already" in again.out
    said = cli("train", *words, "stages.perceptual.train.steps=14", "--out", run).sentence
    assert "has learned with its stage perceptual" in said


# ------------------------------------------------------------------------------- other commands


VERBS = {
    "info": (),
    "sample": ("-n", 3, "--out", "samples.npz"),
    "evaluate": ("-n", 20, "--extractor", "pixels", "--metrics", "sliced_wasserstein"),
    "report": (),
    "doctor": ("--device", "cpu", "--only", "run"),
    "tune": ("--nfe", "2", "--sampler", "ddim", "-n", 4, "--reference", 12, "--seconds", 1, "--device", "cpu"),
    "ema": (),
    "likelihood": ("-n", 4),
    "audit": ("-n", 8),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", PLANS)
def test_every_command_knows_what_to_do_with_it(plan, monkeypatch, tmp_path, name, verb):
    monkeypatch.chdir(tmp_path)
    run = plan(name)
    before = hashes(run / PLANS[name][1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = cli(verb, run, *VERBS[verb])
    assert "Traceback" not in done.out + done.err
    print(done)
    assert done.code == 0, done
    assert hashes(run / PLANS[name][1]) == before
    if verb == "doctor":
        assert "ok    run            a step of training from the saved state" in done.out
    if verb == "sample":
        assert np.array_equal(np.load("samples.npz")["arr_0"], load(run).sample(3).numpy().transpose(0, 2, 3, 1))


def test_info_tells_of_stages_and_of_one_that_is_missing(plan):
    run = plan("latent")
    told = json.loads(cli("info", run, "--json").out)
    assert told["stage autoencoder"] == str(run / "autoencoder")
    assert told["example"].startswith("image of shape 1x8x8, latent (")
    shutil.rmtree(run / "autoencoder")
    told = json.loads(cli("info", run, "--json").out)
    assert "lacks its stage autoencoder" in told["stage autoencoder"]
    assert "lacks its stage autoencoder" in cli("sample", run, "-n", 2).sentence


# ------------------------------------------------------------------------------ words for the base


def drawn(run, out, *words):
    done = cli("sample", run, "-n", 4, "--out", out, *words)
    assert done.code == 0, done
    return np.asarray(Image.open(out)) if out.suffix == ".png" else np.load(out)["arr_0"]


def test_words_for_the_base_change_how_it_samples(plan, tmp_path):
    run = load(plan("cascade"))
    stage = run.stage("base")
    for each in (run, stage):  # which have learned next to nothing: so that what they are told shows
        each.save_model({name: v + 0.1 for name, v in each.model.net.state_dict().items()}, 12)
    plain = drawn(run.path, tmp_path / "plain.npz")
    made = drawn(run.path, tmp_path / "made.npz", "base.grid.steps=5", "base.guidance=3")
    assert not np.array_equal(made, plain)
    again = load(run.path)
    again.sampling_below = {"base": again.stage("base").settings(steps=5, guidance=3.0)}
    assert np.array_equal(made, again.sample(4).numpy().transpose(0, 2, 3, 1))
    assert np.array_equal(drawn(run.path, tmp_path / "same.npz", "base.guidance=1"), plain)
    drawn(run.path, tmp_path / "sheet.png", "base.sampler.kind=ddim", "augmentation=0.3")
    told = read_metadata(tmp_path / "sheet.png")
    assert told["base"]["sampler"]["kind"] == "ddim"
    assert told["sampling"]["sampler"]["kind"] == "adams"
    assert told["sampling"]["augmentation"] == 0.3


def test_samples_with_other_words_for_the_base_have_other_names(plan):
    run = plan("cascade")
    for words in ((), ("base.guidance=2",), ("base.guidance=3",)):
        assert cli("sample", run, "-n", 1, *words).code == 0
    assert len(list((run / "samples").glob("adams-*"))) == 3


def test_evaluate_takes_words_for_the_base_too(plan, tmp_path):
    run = plan("cascade")
    load(run).save_model({name: v + 0.1 for name, v in load(run).model.net.state_dict().items()}, 12)
    told = ("-n", 20, "--extractor", "pixels", "--metrics", "sliced_wasserstein", "--sampler", "ddim")
    results = []
    for i, words in enumerate(((), ("base.sampler.kind=ddim", "base.grid.steps=1"))):
        done = cli("evaluate", run, *words, *told, "--out", tmp_path / f"{i}.json")
        assert done.code == 0, done
        results.append(json.loads((tmp_path / f"{i}.json").read_text()))
    assert results[0] != results[1]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("base.nothing=3",), "nothing"),
        (("base.guidance=-1",), "guidance must be at least 0"),
        (("augmentation=0.9",), "at most noise=0.5; given 0.9"),
        (("truncated=true", "augmentation=0"), "give augmentation, its level"),
        (("base.guidance",), "is not a setting"),
    ],
    ids=str,
)
def test_words_that_do_not_fit(trained_plans, tmp_path, words, sentence):
    run = trained_plans["cascade"][0]
    before = hashes(run)
    assert sentence in cli("sample", run, "-n", 2, *words, "--out", tmp_path / "a.png").sentence
    assert hashes(run) == before


def test_words_for_a_base_that_there_is_not(trained_plans):
    run = trained_plans["latent"][0]
    for verb in ("sample", "evaluate", "audit"):
        said = cli(verb, run, "base.guidance=3", "-n", 2).sentence
        assert said == f"base.guidance=3 is of the stage base of a cascade, and {run} has no such stage"


# ---------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("digits", "stages.base.train.steps=3"), "stages.base is of no use to this recipe"),
        (("latent_diffusion", "digits", "stages.other.train.steps=3"), "there is no stage 'other'"),
        (("latent_diffusion", "digits", "stages.autoencoder.train.step=3"), "stages.autoencoder: "),
        (("digits", "space.kind=latent", "stages.autoencoder.kind=denoiser"), "is a run of kind=autoencoder"),
        (("latent_diffusion", "digits", "stages.autoencoder=nowhere"), "nowhere is not a run folder"),
        (("digits", "space.kind=latent"), "needs the stage autoencoder"),
        (("cascade", "digits", "stages.base=nowhere"), "nowhere is not a run folder"),
        (
            ("cascade", "digits", "image_condition.factor=4", "stages.base.data.factor=2"),
            "give stages.base.data.factor=4",
        ),
        (("cascade", "digits", "stages.base.train.steps=3", "stages.base=nowhere"), "stage base is given as a folder"),
        (("cascade", "digits", "stages.base=nowhere", "stages.base.train.steps=3"), "stages.base.train means nothing"),
        (
            ("latent_diffusion", "digits", "space.autoencoder=a", "stages.autoencoder.train.stepz=3"),
            "given as a folder",
        ),
        (("cascade", "digits", "image_condition.factor=3", "stages.base.data.factor=3"), "needs sides that it divides"),
    ],
    ids=str,
)
def test_plans_that_are_none(tmp_path, words, sentence):
    out = tmp_path / "new" / "run"
    assert sentence in cli("train", *words, *MLP, *SHORT, "--out", out).sentence
    assert not (tmp_path / "new").exists()


def test_going_on_with_another_autoencoder(plan, tmp_path):
    run = plan("latent")
    other = begun_autoencoder(tmp_path / "other", images(40), 1)
    before = hashes(run)
    said = cli("train", *ON_LATENTS, f"space.autoencoder={other.path}", "--out", run).sentence
    assert "begun with another autoencoder" in said
    assert hashes(run) == before
    shutil.rmtree(run / "autoencoder")
    shutil.copytree(autoencoder("train.seed=5"), run / "autoencoder")
    before = hashes(run)
    for words in (
        ("sample", run, "-n", 2),
        ("train", *ON_LATENTS, f"space.autoencoder={run / 'autoencoder'}", "--out", run),
    ):
        assert "is not the autoencoder that" in cli(*words).sentence
    assert hashes(run) == before


def test_what_is_done_to_pixels_is_not_done_to_latents(plan, tmp_path):
    run = plan("latent")
    random = np.random.default_rng(0)
    picture, small = tmp_path / "eight.png", tmp_path / "four.png"
    Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(picture)
    Image.fromarray(random.integers(0, 256, (4, 4), np.uint8)).save(small)
    out = ("--out", tmp_path / "a.png", "-n", 1, "--steps", 2)
    for what, words in {
        "filling in what a mask hides": (picture, "--box", "4,0,4,8"),
        "restoring a picture": (small, "--operator", "downsample:2"),
        "painting around a picture": (picture, "--outpaint", "4,0,0,0"),
    }.items():
        said = cli("edit", run, *words, *out).sentence
        assert f"{what} needs a model that sees pixels, and that of {run} sees latents of them" in said
    assert not (tmp_path / "a.png").exists()
    assert cli("edit", run, picture, "--strength", 0.5, *out).code == 0  # noise and back is fit for latents
