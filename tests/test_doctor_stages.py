"""The doctor of a run that is made of several models: all is well, or the stage at fault is named."""

import json
import shutil

import pytest
import torch
from toys import cli, copied, hashes

import reverie.doctor.stages as stages
from reverie.autoencoders.linear import fitted
from reverie.diagnosis.case import CEILING, LATENTS, SHARES, UPSAMPLER
from reverie.doctor import run as runs
from reverie.doctor.finding import find
from reverie.runs import load

BRIEF = ("train.batch=8", "train.warmup=2", "train.sample_every=9999", "train.ema_lengths=[]")
SAMPLED = ("sample.grid.kind=uniform", "sample.grid.steps=4")
MLP = ("net.kind=mlp", "net.width=16", "net.depth=1")
CASCADE = (
    "image_condition.kind=low_resolution", "image_condition.factor=2", "image_condition.noise=0.5",
    *(f"stages.base.{word}" for word in ("data.kind=smaller", "data.factor=2", "train.steps=4", *BRIEF, *SAMPLED)),
    *(f"stages.base.{word}" for word in MLP),
    "net.kind=unet", "net.width=8", "net.blocks=1", "net.multipliers=[1]", "net.head_width=8", "train.steps=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REVERIE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def latent(tmp_path_factory, cache):
    """A run on the 16 first principal components of digits."""
    folder = tmp_path_factory.mktemp("latent")
    words = ("kind=autoencoder", "autoencoder.kind=linear", "autoencoder.channels=16", "train.steps=1", *BRIEF)
    assert cli("train", "digits", *words, "--out", folder / "ae").code == 0
    stage = load(folder / "ae")
    examples = stage.recipe.data.load()
    stage.save_model(fitted(stage.space.encode(torch.from_numpy(examples.items)), 16), 1)
    words = ("space.kind=latent", f"space.autoencoder={folder / 'ae'}", *MLP, *BRIEF, *SAMPLED, "train.steps=4")
    result = cli("train", "digits", *words, "--out", folder / "run")
    assert result.code == 0, result
    return folder / "run"


@pytest.fixture(scope="module")
def cascade(tmp_path_factory, cache):
    path = tmp_path_factory.mktemp("cascade") / "run"
    result = cli("train", "digits", *CASCADE, *BRIEF, *SAMPLED, "--out", path)
    assert result.code == 0, result
    return path


def looked(path):
    """The findings about stages, by what was checked."""
    return {check.name: find(check) for check in runs.checks(path, torch.device("cpu")) if check.group == stages.GROUP}


def gone(self):
    raise ValueError("it is gone")


def test_a_latent_run(latent):
    before, found = hashes(latent), looked(latent)
    assert list(found) == ["stages", CEILING, LATENTS, SHARES]
    assert {f.verdict for f in found.values()} == {"ok"}
    assert found["stages"].seen == "autoencoder"
    assert found[CEILING].seen.startswith("PSNR ")
    assert "floor" in found[SHARES].seen
    assert hashes(latent) == before


def test_an_autoencoder_by_itself(latent):
    found = looked(latent / "autoencoder")
    assert list(found) == [CEILING]
    assert found[CEILING].verdict == "ok"


def test_an_upsampler_that_has_learned_nothing(cascade):
    found = looked(cascade)
    assert list(found) == ["stages", UPSAMPLER, SHARES]
    assert found[UPSAMPLER].verdict == "FAIL"
    assert "it ignores its small picture" in found[UPSAMPLER].advice
    assert "most by the upsampler" in found[SHARES].seen


def test_latents_of_other_numbers(latent, tmp_path):
    path = shutil.copytree(latent, tmp_path / "run")
    data = json.loads((path / "config.json").read_text())
    data["recipe"]["space"]["std"][3] *= 2
    (path / "config.json").write_text(json.dumps(data))
    found = looked(path)[LATENTS]
    assert found.verdict == "FAIL"
    assert "channel 3 (mean" in found.advice


def test_a_stage_that_is_gone_or_another_one(latent, cascade, tmp_path):
    for source, name in ((latent, "autoencoder"), (cascade, "base")):
        path = shutil.copytree(source, tmp_path / name)
        shutil.rmtree(path / name)
        found = looked(path)
        assert found["stages"].verdict == "FAIL"
        assert f"lacks its stage {name}" in found["stages"].advice
        assert {f.verdict for what, f in found.items() if what != "stages"} == {"-"}
        assert {f.seen for what, f in found.items() if what != "stages"} == {"a stage cannot be used"}


def test_without_data_and_without_time(latent, cascade, monkeypatch):
    monkeypatch.setattr(stages, "SECONDS", 0.0)
    found = looked(cascade)
    assert {found[what].verdict for what in (UPSAMPLER, SHARES)} == {"-"}
    assert "would take" in found[UPSAMPLER].seen
    assert looked(latent)[CEILING].verdict == "ok"  # which draws no samples
    monkeypatch.setattr("reverie.data.digits.Digits.load", gone)
    assert looked(latent)[CEILING].seen == "no data: it is gone"


def test_a_model_by_itself_has_none(tmp_path):
    assert looked(copied(tmp_path / "run")) == {}
