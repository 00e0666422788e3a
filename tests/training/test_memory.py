"""What a loss learns or remembers: seen in the order of the rows, trained, saved, put back bit for bit."""

import math
from dataclasses import replace

import pytest
import torch
from helpers import close
from torch import nn
from toys import DIT, TOY, begun, cli, copied, outcome, trained

from reverie.losses import Denoising
from reverie.runs import Run, load
from reverie.tensor_files import read_tensors
from reverie.training import NonFiniteError, Trainer
from reverie.training.batches import Batches
from reverie.training.state import states

LOSS = (
    "loss.kind=resampled",
    "loss.levels=3",
    "loss.history=2",
    "loss.loss.kind=uncertain",
    "loss.loss.channels=8",
    "loss.loss.loss={kind='denoising', notation='flow', times={kind='logit_normal'}}",
)
"""One that learns within one that remembers: balanced levels, at times drawn by their losses."""
HARD = (*DIT, *LOSS, "train.accumulate=2", "train.flip=true", "train.drop=0.3")


def remembered(run):
    return read_tensors(next(states(load(run))) / "loss.safetensors")


class Kept(nn.Module):
    """A parameter that scales the loss, how many steps were seen, and their largest loss."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("largest", torch.zeros((), dtype=torch.float64))


class Remembering(Denoising):
    """Denoising times (1 + scale^2) / 2, whose memory counts; it keeps what it observes for the test."""

    seen: list

    def memory(self, bring=None):
        return Kept()

    def __call__(self, f, x0, u, cond=None, noise=torch.randn_like, memory=None):
        value = super().__call__(f, x0, u, cond, noise)
        return value if memory is None else value * (1 + memory.scale**2) / 2

    def observe(self, memory, u, values):
        assert not torch.is_grad_enabled()
        assert not values.requires_grad
        memory.steps += 1
        memory.largest.copy_(torch.maximum(memory.largest, values.double().max()))
        SEEN.append((u, values))


SEEN = []


def remembering(path, *settings):
    """A run of that loss, which no file can name."""
    run, examples = begun(path, *settings)
    loss = Remembering(run.recipe.loss.notation, run.recipe.loss.times)
    return Run(run.path, replace(run.recipe, loss=loss), run.facts, run.about), examples


def observed(path, *settings):
    SEEN.clear()
    run, examples = remembering(path, *settings)
    trainer = Trainer(run, examples)
    for _ in trainer:
        pass
    return list(SEEN), trainer


# --------------------------------------------------------------------------------- what it sees


def test_a_step_is_observed_in_the_order_of_its_rows(tmp_path):
    whole, trainer = observed(tmp_path / "whole", "train.batch=12")
    parts, _ = observed(tmp_path / "parts", "train.batch=4", "train.accumulate=3")
    batches = trainer.batches
    assert isinstance(batches, Batches)
    assert len(whole) == len(parts) == 12
    for step, ((u, values), (other_u, other_values)) in enumerate(zip(whole, parts, strict=True)):
        assert u.dtype == torch.float64
        assert u.device.type == "cpu"
        assert torch.equal(u, batches.step(step)[0].u)
        assert torch.equal(u, other_u)
        assert values.shape == u.shape == (12,)
        assert close(values, other_values, 1e-4)
    line = trainer.run.path / "metrics.jsonl"
    first = sum(float(values.mean()) for _, values in whole[:3]) / 3
    assert f'"loss": {first:.4f}'[:-1] in line.read_text()


def test_what_it_learns_is_trained_with_the_network_and_counts_as_its_gradient(tmp_path):
    """AdamW's first steps have the length of the learning rate, whatever the gradient: the scale falls by it."""
    seen, trainer = observed(tmp_path / "run", "train.steps=1", "train.warmup=0", "train.lr=0.01", "train.clip=1e9")
    assert float(trainer.learner.memory.scale.detach()) == pytest.approx(0.99, abs=1e-5)
    assert int(trainer.learner.memory.steps) == 1
    assert float(trainer.learner.memory.largest) == pytest.approx(float(seen[0][1].max()))
    names = {name for name, _ in trainer.learner.average.net.named_parameters()}
    assert names == {
        name for name, _ in trainer.learner.denoiser.net.named_parameters()
    }  # it is not averaged, nor saved


def test_validation_and_the_model_know_nothing_of_it():
    run = trained(*HARD)
    assert read_tensors(run / "model.safetensors").keys() == read_tensors(trained(*DIT) / "model.safetensors").keys()


def test_a_loss_without_memory_saves_none():
    assert not list((trained() / "state").glob("*/loss.safetensors"))


def test_registered_losses_learn_and_remember():
    found = remembered(trained(*HARD))
    assert int(found["memory/count"].sum()) == 6  # two of each of three levels
    assert bool((found["memory/losses"] > 0).all())
    learned = [name for name in found if name.startswith("memory/inner") and name.endswith("weight")]
    assert learned
    assert all(float(found[name].abs().max()) > 0 for name in learned)
    assert {"optimizer/inner.weight/step", "optimizer/inner.weight/exp_avg"} <= found.keys()


# ------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("moment", [0, 1, 5, 7, 12])
def test_a_resumed_run_remembers(tmp_path, moment):
    run, examples = begun(tmp_path / "run", *HARD)
    for report in Trainer(run, examples):
        if report.step == moment:
            break
    for _ in Trainer(load(run.path), examples):
        pass
    assert outcome(run.path) == outcome(trained(*HARD))


def test_a_damaged_memory_is_named_and_the_state_before_it_used(tmp_path):
    run = copied(tmp_path / "run", *HARD)
    path = run / "state" / "00000012" / "loss.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    resumed = cli("train", *TOY, *HARD, "--out", run)
    assert "loss.safetensors is damaged" in resumed.out
    assert "resuming at step 8" in resumed.out
    assert outcome(run) == outcome(trained(*HARD))


def test_the_memory_of_another_loss_is_refused(tmp_path):
    from reverie.training import objective

    memory = Kept()
    adam = torch.optim.AdamW(memory.parameters())
    with pytest.raises(ValueError, match=r"another memory than the loss: largest is missing; scale"):
        objective.restore_memory(memory, adam, {"memory/steps": memory.steps, "memory/scale": torch.ones(3)})


# ----------------------------------------------------------------------------------- diagnosis


def spoiled(path, spoil):
    """The message of a run in which something is spoiled after step 5."""
    run, examples = remembering(path)
    trainer = Trainer(run, examples)
    try:
        for report in trainer:
            if report.step == 5:
                spoil(trainer)
    except NonFiniteError as error:
        return str(error)
    pytest.fail("it went on to the end")


def test_what_was_learned_is_not_finite(tmp_path):
    said = spoiled(tmp_path / "run", lambda trainer: trainer.learner.memory.scale.data.fill_(math.nan))
    assert "step 6: " in said
    assert "First: the weight loss.scale (1 nan of 1 values)" in said
    assert "state/00000004 is whole" in said


def test_a_step_that_makes_it_infinite_is_not_saved(tmp_path):
    def spoil(trainer):
        step = trainer.learner.optimizer.optimizer.step

        def overflowing(*args, **kwargs):
            step(*args, **kwargs)
            trainer.learner.memory.scale.data.fill_(math.inf)

        trainer.learner.optimizer.optimizer.step = overflowing

    said = spoiled(tmp_path / "run", spoil)
    assert "step 6 made the weight loss.scale (1 infinite of 1 values), which is not saved" in said


def test_the_diagnosis_evaluates_with_the_memory_and_the_same_noise(tmp_path):
    """A loss that is infinite only through what was learned: the loss itself is named, no weight."""
    said = spoiled(tmp_path / "run", lambda trainer: trainer.learner.memory.scale.data.fill_(1e30))
    assert "First: the loss itself (" in said
