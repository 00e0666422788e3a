"""What a model of latents is shown in training: the latents of examples or of mirrored ones, resumed or not."""

import pytest
import torch
from staged import AUTOENCODER, SMALL_DIT, images, latent, own_cache  # noqa: F401  # a fixture
from toys import begun, hashes, metrics, outcome

from reverie.runs import load
from reverie.training import Trainer
from reverie.training.batches import held
from reverie.training.seen import seen
from reverie.training.validation import held_out_loss

EXAMPLES = images(60)
FLIP = "train.flip=true"


def test_a_model_of_pixels_is_shown_the_examples_as_they_are(tmp_path):
    run, _ = begun(tmp_path / "run", examples=EXAMPLES)
    shown = seen(run, EXAMPLES)
    assert (shown.examples, shown.space, shown.mirrored) == (EXAMPLES, run.space, None)
    auto, _ = begun(tmp_path / "auto", *AUTOENCODER, FLIP, examples=EXAMPLES)
    assert seen(auto, EXAMPLES).mirrored is None  # its pixels are mirrored


def test_latents_from_the_disk_are_those_encoded_on_the_fly(tmp_path):
    run = latent(tmp_path / "run", EXAMPLES)
    trainer = Trainer(run, EXAMPLES)
    next(iter(trainer))
    fly = run.space.encode(torch.from_numpy(EXAMPLES.items))
    chosen = trainer.batches._rows(0, 8)
    (batch,) = trainer.batches.step(0)
    assert torch.equal(batch.x0, fly[chosen])
    assert seen(run, EXAMPLES).mirrored is None


def test_mirroring_is_of_pictures_and_not_of_their_latents(tmp_path):
    run = latent(tmp_path / "run", EXAMPLES, FLIP)
    trainer = Trainer(run, EXAMPLES)
    next(iter(trainer))
    data = torch.from_numpy(EXAMPLES.items)
    plain, turned = run.space.encode(data), run.space.encode(data.flip(-1))
    both = [0, 0]
    for step in range(4):
        chosen = trainer.batches._rows(8 * step, 8)
        (batch,) = trainer.batches.step(step)
        for x0, row in zip(batch.x0, chosen, strict=True):
            which = [torch.equal(x0, made[row]) for made in (plain, turned)]
            assert sum(which) == 1
            both[which.index(True)] += 1
            assert not torch.equal(x0, plain[row].flip(-1))
    assert min(both) >= 5


def test_examples_that_stand_on_a_device_give_the_same_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("reverie.training.trainer.hold", held)
    run = latent(tmp_path / "run", EXAMPLES, FLIP)
    there = Trainer(run, EXAMPLES)
    next(iter(there))
    monkeypatch.undo()
    here = Trainer(load(run.path), EXAMPLES)
    next(iter(here))
    for a, b in zip(there.batches.step(2), here.batches.step(2), strict=True):
        assert torch.equal(a.x0, b.x0)


@pytest.mark.parametrize("settings", [(), (*SMALL_DIT, FLIP, "train.accumulate=2")], ids=["mlp", "dit"])
def test_a_stopped_run_ends_as_one_that_was_not(tmp_path, settings):
    whole = latent(tmp_path / "whole", EXAMPLES, *settings)
    for _ in Trainer(load(whole.path), EXAMPLES):
        pass
    stage = hashes(whole.path / "autoencoder")
    run = latent(tmp_path / "run", EXAMPLES, *settings)
    for report in Trainer(load(run.path), EXAMPLES):
        if report.step == 5:
            break
    for _ in Trainer(load(run.path), EXAMPLES):
        pass
    assert outcome(run.path) == outcome(whole.path)
    assert hashes(whole.path / "autoencoder") == stage


def test_the_held_out_loss_is_that_of_latents_of_data(tmp_path):
    run = latent(tmp_path / "run", EXAMPLES)
    for _ in Trainer(load(run.path), EXAMPLES):
        pass
    run = load(run.path)
    rows = run.recipe.data.split(EXAMPLES, run.recipe.train.validation, run.recipe.train.seed).validation
    told = [line["validation_loss"] for line in metrics(run.path) if "validation_loss" in line]
    assert held_out_loss(run, run.denoiser, seen(run, EXAMPLES), rows, "cpu").loss == told[-1]
    assert told[-1] < told[0]
