"""The first loss that is not finite ends the run: step, noise levels, the tensor; what was good is kept."""

import math
import re

import pytest
import torch
from torch import nn
from toys import DIT, begun, finite, hashes, outcome, toy, trained

from reverie.losses import Denoising, UniformTimes
from reverie.runs import load
from reverie.training import NonFiniteError, Trainer
from reverie.training.batches import Batch
from reverie.training.diagnosis import first_non_finite
from reverie.training.state import states

LEVELS = re.compile(r"at noise levels t = [\d.e-]+ \(sigma [\d.e-]+\)")


def failing(trainer, after, spoil):
    """Train to step `after`, spoil something, go on: the message."""
    try:
        for report in trainer:
            if report.step == after:
                spoil(trainer)
    except NonFiniteError as error:
        return str(error)
    pytest.fail("it went on to the end")


def resumed(run, examples):
    for _ in Trainer(load(run.path), examples):
        pass
    return outcome(run.path)


def test_data(tmp_path, monkeypatch):
    from reverie.training import batches

    encoded = batches.encoded

    def spoil(trainer):
        def with_nan(*args):
            x0, label = encoded(*args)
            x0[3, 0, 2, 2] = math.nan
            return x0, label

        monkeypatch.setattr(batches, "encoded", with_nan)

    run, examples = begun(tmp_path / "run")
    said = failing(Trainer(run, examples), 5, spoil)
    assert said.startswith("step 6: ")
    assert "First: the data (1 nan of 512 values)" in said
    assert LEVELS.search(said)
    assert "more" not in said.partition("at noise levels")[2].partition(";")[0]  # the level of that example alone
    assert "state/00000005" in said
    assert finite(run.path)
    monkeypatch.undo()
    assert resumed(run, examples) == outcome(trained())


def test_a_module(tmp_path):
    name, layer = "", nn.Linear(1, 1)

    def spoil(trainer):
        nonlocal name, layer
        named = trainer.learner.denoiser.named_modules()
        name, layer = next((n, m) for n, m in named if "blocks.0." in n and isinstance(m, nn.Linear))
        layer.forward = lambda h: torch.nn.functional.linear(h, layer.weight, layer.bias) * math.inf

    run, examples = begun(tmp_path / "run", *DIT)
    said = failing(Trainer(run, examples), 7, spoil)
    assert said.startswith("step 8: ")
    assert f"the output of {name}, a Linear" in said
    assert LEVELS.search(said)
    assert finite(run.path)
    assert resumed(run, examples) == outcome(trained(*DIT))


def test_a_weight_is_not_saved(tmp_path):
    def spoil(trainer):
        with torch.no_grad():
            trainer.learner.denoiser.net.out.weight[0, 0] = math.inf

    run, examples = begun(tmp_path / "run")
    said = failing(Trainer(run, examples), 5, spoil)
    assert said.startswith("step 6: ")
    assert "the weight net.out.weight (1 infinite of" in said
    assert LEVELS.search(said)
    assert "state/00000004 is whole" in said
    assert [p.name for p in states(run)] == ["00000004", "00000000"]
    assert finite(run.path)
    assert resumed(run, examples) == outcome(trained())


def test_a_weight_that_the_last_step_before_a_save_made_infinite_is_not_saved_either(tmp_path):
    run, examples = begun(tmp_path / "run")
    trainer = Trainer(run, examples)

    def spoil(trainer):
        step = trainer.learner.optimizer.optimizer.step

        def overflowing(*args, **kwargs):
            step(*args, **kwargs)
            with torch.no_grad():
                trainer.learner.denoiser.net.out.bias[1] = math.nan

        trainer.learner.optimizer.optimizer.step = overflowing

    before = {}
    said = failing(trainer, 7, lambda t: (spoil(t), before.update(hashes(run.path / "state"))))
    assert "step 8 made the weight out.bias (1 nan" in said
    assert hashes(run.path / "state") == before
    assert finite(run.path)
    assert resumed(run, examples) == outcome(trained())


@pytest.mark.parametrize("settings", [("train.lr=1e30",), ("train.lr=1e37", "train.clip=1e30", "train.save_every=1")])
def test_a_learning_rate_far_too_large(tmp_path, settings):
    run, examples = begun(tmp_path / "run", *settings, "train.warmup=0")
    said = failing(Trainer(run, examples), -1, None)
    assert "not finite" in said or "is not saved" in said
    assert re.match(r"step \d+", said)
    assert finite(run.path)
    assert load(run.path).sample(1).shape == (1, 1, 8, 8)


def test_the_diagnosis_finds_a_gradient_that_only_overflows_backwards():
    run = load(trained())
    denoiser = run.denoiser.requires_grad_(True)
    x0 = torch.zeros(4, 1, 8, 8)
    batch = Batch(x0, torch.linspace(0.1, 0.9, 4).double(), lambda: torch.ones_like, None)

    class Root(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            return g * math.nan

    layer = denoiser.net.out
    layer.forward = lambda h: Root.apply(torch.nn.functional.linear(h, layer.weight, layer.bias))
    levels, what = first_non_finite(denoiser, Denoising("x0", UniformTimes()), batch)
    assert what.startswith("the gradient of net.")
    assert levels.startswith("t = ")
    del layer.forward
    assert first_non_finite(denoiser, toy().loss, batch)[1].startswith("nothing")
