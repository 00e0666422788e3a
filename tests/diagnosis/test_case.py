"""Runs whose parts are known: the stage that is wrong is the one that is named."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from reverie.autoencoders.linear import fitted
from reverie.data import Examples
from reverie.data.smaller import smaller
from reverie.diagnosis import Case, Unmeasured, diagnoses
from reverie.diagnosis.case import CEILING, LATENTS, SHARES, UPSAMPLER
from reverie.prediction import Prediction
from reverie.recipe import compose
from reverie.runs import create, load, new_model

N, TRAINED = 600, 400
SHORT = {"sampler": {"kind": "ddim"}, "grid": {"kind": "uniform", "steps": 8}}
"""DDIM is exact where x0 is known."""


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "cache"))


class Denoiser(nn.Module):
    """A denoiser of a law that is known, as a run's: E[x0] = f(x, t, cond)."""

    def __init__(self, schedule, f):
        super().__init__()
        self.schedule, self.f = schedule, f
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, x, t, cond=None):
        return Prediction.from_x0(self.f(x, t, cond), x, self.schedule.at(t, like=x))


def normal(schedule, std=1.0, mean=0.0):
    """E[x0 | x_t] where all numbers of x0 are normal and independent."""

    def f(x, t, cond):
        level = schedule.at(t, like=x)
        alpha, sigma = float(level.alpha), float(level.sigma)
        return mean + alpha * std**2 / (alpha**2 * std**2 + sigma**2) * (x - alpha * mean)

    return f


def put(run, f):
    run.__dict__["denoiser"] = run.__dict__["model"] = Denoiser(run.schedule, f).eval()


def made(path, layer, examples, needed=None, state=None):
    base = {"data": "digits", "net": {"kind": "mlp", "width": 8, "depth": 1}, "sample": SHORT}
    recipe = compose([{**base, "train": {"steps": 1, "ema_lengths": [], "validation": 1 - TRAINED / N}}, layer])
    rows = recipe.data.split(examples, recipe.train.validation, recipe.train.seed).train
    run = create(path, recipe, examples, rows, needed)
    run.save_model(state or new_model(run.recipe, run.facts).net.state_dict(), 1)
    return load(path)


# ---------------------------------------------------------------------------------------- cascades


def cascade(tmp_path, noise=0.5):
    """Pictures of 4 x 4 with 2 x 2 different numbers, so that to enlarge is to repeat; normal numbers below."""
    small = np.random.default_rng(0).standard_normal((N, 1, 2, 2)).astype(np.float32)
    examples = Examples(small.repeat(2, 2).repeat(2, 3))
    made(tmp_path / "base", {"data": {"kind": "smaller", "data": "digits"}}, smaller(examples, 2))
    condition = {"kind": "low_resolution", "factor": 2, "noise": noise}
    run = made(tmp_path / "run", {"image_condition": condition}, examples, {"base": tmp_path / "base"})
    put(run, repeating(run))
    put(run.stage("base"), normal(run.schedule))
    return run, examples


def repeating(run):
    """x0 is the small picture that was enlarged, its numbers repeated."""
    unit = torch.eye(4).reshape(4, 1, 2, 2)
    shrunk = torch.linalg.pinv(run.recipe.image_condition.enlarged(unit).flatten(1))

    def f(x, t, cond):
        small = (cond.image.flatten(1) @ shrunk).reshape(-1, 1, 2, 2)
        return small.repeat_interleave(2, 2).repeat_interleave(2, 3)

    return f


def test_a_cascade_of_right_stages(tmp_path):
    run, examples = cascade(tmp_path)
    assert diagnoses(run.recipe) == (UPSAMPLER, SHARES)
    case = Case(run, examples)
    used, brought = case.upsampler(), case.shares()
    assert all(each.made.own == pytest.approx(1, abs=1e-4) for each in used.levels)
    assert len(used.levels) == 5
    assert not used.faulty
    assert [step.stage for step in brought.steps] == ["floor", "upsampler", "base"]
    assert brought.parts[0].value == pytest.approx(0, abs=1e-4)  # the held-out pictures themselves
    assert not brought.parts[1].sure
    again = Case(run, examples)
    assert again.upsampler() == used
    assert again.shares() == brought
    assert Case(run, examples, seed=1).shares() != brought


def test_a_base_that_draws_another_law_is_named(tmp_path):
    run, examples = cascade(tmp_path)
    put(run.stage("base"), normal(run.schedule, 0.5, 2.0))
    found = Case(run, examples).shares()
    assert found.worst.stage == "base"
    assert "the base brings" in found.words
    assert not Case(run, examples).upsampler().faulty


def test_an_upsampler_that_looks_at_nothing_is_named(tmp_path):
    """It draws numbers that all are its own."""
    run, examples = cascade(tmp_path)
    put(run, normal(run.schedule))
    case = Case(run, examples)
    assert case.upsampler().ignores
    assert case.shares().worst.stage == "upsampler"


def test_a_base_is_not_needed_to_look_at_its_upsampler(tmp_path):
    run, examples = cascade(tmp_path)
    alone = made(tmp_path / "alone", {"image_condition": {"kind": "low_resolution", "factor": 2}}, examples)
    put(alone, repeating(alone))
    found = Case(alone, examples).shares()
    assert [step.stage for step in found.steps] == ["floor", "upsampler"]
    assert [each.level for each in Case(alone, examples).upsampler().levels] == [0]
    assert run.facts.stages != alone.facts.stages


@pytest.mark.parametrize(("drop", "hidden"), [(0.1, True), (0.0, False)])
def test_agreement_cannot_come_by_a_class(tmp_path, drop, hidden):
    """None is told, unless training never hid it."""
    small = np.random.default_rng(0).standard_normal((N, 1, 2, 2)).astype(np.float32)
    examples = Examples(small.repeat(2, 2).repeat(2, 3), np.arange(N) % 3, ("a", "b", "c"))
    layer = {"image_condition": {"kind": "low_resolution", "factor": 2}, "train": {"drop": drop}}
    run, told = made(tmp_path / "run", layer, examples), []
    f = repeating(run)

    def seen(x, t, cond):
        told.append((cond.label, cond.hidden("label")))
        return f(x, t, cond)

    put(run, seen)
    case = Case(run, examples)
    assert not case.upsampler().faulty
    label, away = told[0]
    assert (away is not None and bool(away.all())) is hidden
    if not hidden:
        assert label[:16].tolist() == examples.labels[case._rows(16)][: len(label)].tolist()


def test_what_would_take_too_long_is_left(tmp_path):
    run, examples = cascade(tmp_path)
    case = Case(run, examples, seconds=0.0)
    for look, n in ((case.upsampler, 80), (case.shares, 64)):
        with pytest.raises(Unmeasured, match=f"{n} samples in 8 steps would take"):
            look()
    assert Case(run, examples, seconds=600.0).upsampler() == Case(run, examples).upsampler()


# ----------------------------------------------------------------------------------------- latents


def latent(tmp_path, channels):
    """Six normal numbers, as many of their principal components as there are channels, and the exact model of them."""
    examples = Examples(np.random.default_rng(1).standard_normal((N, 6)).astype(np.float32))
    layer = {"kind": "autoencoder", "autoencoder": {"kind": "linear", "channels": channels}, "net": None}
    recipe = compose([{"data": "digits"}, layer])
    rows = recipe.data.split(examples, 1 - TRAINED / N, recipe.train.seed).train
    data = torch.from_numpy(examples.items[rows])
    standard = (data - data.mean(0)) / data.std(0, correction=0)
    stage = made(tmp_path / "ae", layer, examples, state=fitted(standard, channels))
    run = made(tmp_path / "run", {"space": {"kind": "latent", "autoencoder": str(stage.path)}}, examples)
    put(run, normal(run.schedule))
    return stage, run, examples


def test_latents_of_an_autoencoder_that_loses_nothing(tmp_path):
    stage, run, examples = latent(tmp_path, 6)
    assert diagnoses(run.recipe) == (CEILING, LATENTS, SHARES)
    assert diagnoses(stage.recipe) == (CEILING,)
    for each in (stage, run):  # the autoencoder by itself, and as a stage
        found = Case(each, examples).ceiling()
        assert found.quality["snr"] > 60
        for kept, floor in zip(found.rebuilt, found.floor, strict=True):
            assert kept.value == pytest.approx(floor.value, abs=1e-4)
        assert not found.faulty
    assert not Case(run, examples).latents().faulty
    found = Case(run, examples).shares()
    assert [step.stage for step in found.steps] == ["floor", "autoencoder", "model"]
    assert found.parts[0].value == pytest.approx(0, abs=1e-4)
    assert found.worst is None


def test_an_autoencoder_that_loses_most_is_named(tmp_path):
    _, run, examples = latent(tmp_path, 1)
    case = Case(run, examples)
    assert case.ceiling().faulty
    assert case.ceiling().quality["snr"] == pytest.approx(10 * np.log10(6 / 5), abs=0.5)
    assert case.shares().worst.stage == "autoencoder"


def test_a_model_of_another_law_is_named(tmp_path):
    _, run, examples = latent(tmp_path, 6)
    put(run, normal(run.schedule, 3.0))
    found = Case(run, examples).shares()
    assert found.worst.stage == "model"


def test_latents_standardized_by_other_numbers_are_named(tmp_path):
    _, run, examples = latent(tmp_path, 6)
    space = run.recipe.space
    std = tuple(value * (3 if i == 2 else 1) for i, value in enumerate(space.std))
    run.recipe = dataclasses.replace(run.recipe, space=dataclasses.replace(space, std=std))
    run.__dict__.pop("space", None)
    found = Case(run, examples).latents()
    assert found.wrong == (2,)
    assert found.std[2] == pytest.approx(1 / 3, abs=0.05)


def test_without_held_out_examples_nothing_is_measured(tmp_path):
    _, run, examples = latent(tmp_path, 6)
    run.recipe = dataclasses.replace(run.recipe, train=dataclasses.replace(run.recipe.train, validation=0.0))
    with pytest.raises(Unmeasured, match="3 held-out examples at least, and there are 0"):
        Case(run, examples).latents()


def test_a_model_by_itself_has_nothing_to_tell_apart():
    assert diagnoses(compose([{"data": "digits"}])) == ()
    assert diagnoses(compose([{"data": "digits", "kind": "classifier"}])) == ()
