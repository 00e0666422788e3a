"""Runs of classifiers and image-text pairs: trained by the one trainer, refused where a denoiser is meant."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import begun, cli, outcome, toy, trained

from reverie.cli.train import _next
from reverie.data import Examples
from reverie.models import NoisyClassifier, check_guides
from reverie.models.guides import purpose, use_of
from reverie.recipe import Recipe
from reverie.runs import load, new_model
from reverie.tensor_files import read_tensors
from reverie.training import Trainer
from reverie.training.accuracy import LEVELS, accuracy
from reverie.training.seen import seen

CLASSIFIER = ("kind=classifier", "train.accumulate=2", "train.ema_lengths=[0.1]")
PAIR = ("kind=pair", "text.kind=transformer", "text.width=8", "text.depth=1", "text.heads=2")


def captioned():
    """Images of one colour, with its name."""
    names = ("red", "green", "blue", "")
    which = np.arange(40) % 4
    colour = np.eye(4, 3, dtype=np.uint8)[which] * 200 + np.arange(40, dtype=np.uint8)[:, None]
    items = np.broadcast_to(colour[:, :, None, None], (40, 3, 4, 4)).copy()
    return Examples(items, image=True, texts=tuple(names[i] for i in which))


def test_a_classifier_resumes_as_if_it_had_not_stopped(tmp_path):
    run, examples = begun(tmp_path / "run", *CLASSIFIER)
    for report in Trainer(run, examples):
        if report.step == 5:
            break
    for _ in Trainer(load(run.path), examples):
        pass
    assert outcome(run.path) == outcome(trained(*CLASSIFIER))
    assert not (run.path / "samples").exists()


def test_its_accuracy_is_recorded_and_told_at_every_level():
    path = trained(*CLASSIFIER)
    run, lines = load(path), [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    told = [line for line in lines if "accuracy_by_level" in line]
    assert [line["step"] for line in told] == [0, 6, 12]
    assert told[-1]["noise_levels"] == pytest.approx(LEVELS)
    assert (told[-1]["chance"], told[-1]["judged"]) == (pytest.approx(0.1), 180)
    examples = run.recipe.data.load()
    rows = run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed).validation
    again = accuracy(run, run.classifier, seen(run, examples), rows, "cpu")
    assert list(again.by_level) == told[-1]["accuracy_by_level"]


def test_labels_are_never_hidden_from_a_classifier(tmp_path):
    run, examples = begun(tmp_path / "run", *CLASSIFIER, "train.drop=0.9")
    trainer = Trainer(run, examples)
    next(iter(trainer))
    assert not any(batch.cond.drop.any() for batch in trainer.batches.step(0))


def test_what_needs_a_denoiser_says_what_the_run_is_for():
    path = trained(*CLASSIFIER)
    run = load(path)
    assert isinstance(run.classifier, NoisyClassifier)
    for verb in ("sample", "evaluate", "tune"):
        assert cli(verb, path).sentence == purpose("classifier", path)
    assert purpose("classifier", path) in cli("report", path).sentence
    with pytest.raises(ValueError, match="image-text pair"):
        _ = run.pair
    with pytest.raises(ValueError, match="no classifier"):
        _ = load(trained()).classifier


def test_a_pair_is_trained_on_captions(tmp_path):
    run, examples = begun(tmp_path / "run", *PAIR, examples=captioned())
    told = [report.metrics for report in Trainer(run, examples) if "chance" in report.metrics]
    assert all(0 < line["chance"] < 1 and line["judged"] < run.facts.validation for line in told)  # '' is no caption
    found = load(run.path)
    with pytest.raises(ValueError, match=r"guide\.kind=clip"):
        _ = found.denoiser
    cond = found.vocabulary.reader.encode(["red", "blue"])
    x, t = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor(0.5)
    assert found.pair(x, t, cond).shape == (2, 2)
    stopped, _ = begun(tmp_path / "again", *PAIR, examples=examples)
    for report in Trainer(stopped, examples):
        if report.step == 7:
            break
    for _ in Trainer(load(stopped.path), examples):
        pass
    assert outcome(stopped.path) == outcome(run.path)


def followed(command, run, out):
    """What the command that a guide tells does, for a run in the place of RUN."""
    return cli(*(str(run) if word == "RUN" else word for word in shlex.split(command)[1:]),
               "-n", 2, "--sampler", "ddim", "--grid", "uniform", "--steps", 2, "--out", out)  # fmt: skip


def test_the_command_that_a_guide_tells_is_whole(tmp_path):
    pair, _ = begun(tmp_path / "pair", *PAIR, examples=captioned())
    assert json.loads(cli("info", pair.path, "--json").out)["learned scale"] == "-"
    weights = new_model(pair.recipe, pair.facts).net.state_dict()
    pair.save_model({**weights, "log_scale": torch.tensor(3.0)}, 0)
    pair, scale = load(pair.path), read_tensors(pair.file)["log_scale"].exp()
    told = json.loads(cli("info", pair.path, "--json").out)
    assert told["learned scale"].startswith(f"{scale:.3g} times")
    assert told["kind"] == f"pair: {use_of(pair)}"
    assert _next(pair).endswith(f"{scale:.3g}. Next: {use_of(pair)}")
    assert f" --prompt red --guidance {scale:.3g} guide.kind=clip " in use_of(pair)
    run, _ = begun(tmp_path / "run", "labels=false", "captions=false", examples=captioned())
    run.save_model(new_model(run.recipe, run.facts).net.state_dict(), 0)
    done = followed(use_of(pair), run.path, tmp_path / "led.npz")
    assert (done.code, done.err) == (0, "")
    assert np.load(tmp_path / "led.npz")["texts"].tolist() == ["red", "red"]
    classifier = load(trained(*CLASSIFIER))
    done = followed(use_of(classifier), trained(), tmp_path / "led.npz")
    assert (done.code, done.err) == (0, "")
    assert np.load(tmp_path / "led.npz")["arr_1"].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("kind=classifier", "loss.kind=denoising"), "loss.kind=cross_entropy"),
        (("loss.kind=contrastive",), "loss.kind=denoising"),
        (("kind=classifier", "labels=false"), "labels=true"),
        (("kind=classifier", "evaluate.every=5"), "evaluate.every=0"),
        (("kind=pair", "captions=false"), "captions=true"),
    ],
    ids=lambda v: v[-1] if isinstance(v, tuple) else None,
)
def test_settings_that_contradict_each_other_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        toy(*settings)


def test_data_with_nothing_to_learn_leave_no_folder_behind(tmp_path):
    plain = replace(captioned(), texts=())
    for kind, word in (("classifier", "classes"), ("pair", "captions")):
        with pytest.raises(ValueError, match=word):
            begun(tmp_path / kind, f"kind={kind}", examples=plain)
        assert not (tmp_path / kind).exists()


def test_the_kind_chooses_the_loss_whatever_the_order_of_the_words():
    one = toy("loss.times.kind=logit_normal", "kind=classifier")
    assert one == toy("kind=classifier", "loss.times.kind=logit_normal")
    assert one.loss.kind == "cross_entropy"
    assert toy("loss.notation=x0").loss.kind == "denoising"
    assert Recipe.__dataclass_fields__["loss"].default_factory() == toy().loss


def test_a_guide_must_know_what_the_run_knows(tmp_path):
    guide, run = load(trained(*CLASSIFIER)), load(trained())
    check_guides(run, guide)
    check_guides(replaced(run, recipe=replace(run.recipe, labels=False)), guide)  # it need not know of classes
    with pytest.raises(ValueError, match="guides nothing"):
        check_guides(run, run)
    other = replace(run.facts, shape=(3, 8, 8))
    with pytest.raises(ValueError, match="shape"):
        check_guides(replaced(run, facts=other), guide)
    with pytest.raises(ValueError, match="classes"):
        check_guides(replaced(run, facts=replace(run.facts, classes=("cat", "dog"))), guide)
    from reverie.spaces import Standardized

    with pytest.raises(ValueError, match="encoded"):
        check_guides(replaced(run, recipe=replace(run.recipe, space=Standardized())), guide)


def replaced(run, **changes):
    found = load(run.path)
    for name, value in changes.items():
        setattr(found, name, value)
    return found
