"""Runs of autoencoders: trained by the one trainer on any examples, resumed as if never stopped, and what they tell."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from staged import AUTOENCODER, autoencoder
from toys import begun, cli, hashes, interrupted, metrics, outcome, toy, trained

from reverie import pictures
from reverie.data import Attribute, Examples
from reverie.losses import Reconstruction
from reverie.models.guides import purpose
from reverie.runs import load
from reverie.training import Trainer
from reverie.training.reconstruction import reconstruction
from reverie.training.sheets import Shown, draw_rebuilt

JUDGED = ("autoencoder.kind=kl", "loss.adversarial=0.5", "loss.adversarial_after=4")
KINDS = {
    "kl": ("autoencoder.kind=kl",),
    "vq": ("autoencoder.kind=vq", "autoencoder.codes=16"),
    "judged": (*JUDGED, "loss.equivariance=0.5", "train.flip=true"),
}
HALVED = ("autoencoder.halved=[false, true, true]",)
BRIEF = ("train.steps=6", "train.warmup=0", "train.lr=0.01", "train.save_every=2", "train.sample_every=6")
ARRAYS = {"waves": ((1, 16), ()), "videos": ((1, 4, 8, 8), HALVED)}


def smooth(*shape, n=20):
    """Sums over all axes of space of white noise, to unit size: what a convolution can learn something of."""
    items = np.random.default_rng(0).standard_normal((n, *shape))
    for axis in range(2, items.ndim):
        items = items.cumsum(axis)
    return Examples((items / items.std()).astype(np.float32))


def finished(run, examples):
    for _ in Trainer(run, examples):
        pass
    return load(run.path)


@pytest.mark.parametrize(("kind", "moment"), [("kl", 5), ("vq", 5), ("judged", 3), ("judged", 6)])
def test_a_stopped_one_ends_as_one_that_was_not(tmp_path, kind, moment):
    """With what a loss remembers: the judge, which is switched on between the two moments."""
    settings = (*AUTOENCODER, *KINDS[kind])
    assert outcome(interrupted(tmp_path / "run", moment, *settings)) == outcome(trained(*settings))


@pytest.mark.parametrize(("data", "kind"), [("waves", "kl"), ("waves", "vq"), ("videos", "kl"), ("videos", "vq")])
def test_arrays_of_one_axis_and_of_three(tmp_path, data, kind):
    shape, more = ARRAYS[data]
    examples, settings = smooth(*shape), (*AUTOENCODER, *KINDS[kind], *more, *BRIEF)
    run = finished(begun(tmp_path / "whole", *settings, examples=examples)[0], examples)
    lines = [line for line in metrics(run.path) if "validation_loss" in line]
    assert "snr" in lines[-1]
    assert not {"psnr", "ssim"} & lines[-1].keys()
    sides = {"waves": (8,), "videos": (4, 4, 4)}[data]
    x0 = run.space.encode(torch.from_numpy(examples.items[:2]))
    assert tuple(run.autoencoder.encode(x0).shape) == (2, 3, *sides)
    assert run.autoencoder.decode(run.autoencoder.encode(x0)).shape == x0.shape
    again, _ = begun(tmp_path / "again", *settings, examples=examples)
    for report in Trainer(again, examples):
        if report.step == 3:
            break
    assert outcome(finished(again, examples).path) == outcome(run.path)


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_arrays_are_learned(tmp_path, kind):
    examples = smooth(1, 16, n=100)
    settings = (*KINDS[kind], "train.steps=100", "train.lr=0.01", "train.validate_every=100", "train.log_every=100")
    run, _ = begun(tmp_path / "run", *AUTOENCODER, *settings, examples=examples)
    first, last = (line["snr"] for line in metrics(finished(run, examples).path) if "snr" in line)
    assert last > first + 3


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_what_is_logged_is_measured_on_the_held_out_examples(kind):
    run = load(autoencoder(*KINDS[kind]))
    lines = [line for line in metrics(run.path) if "validation_loss" in line]
    assert [line["step"] for line in lines] == [0, 6, 12]
    examples = run.recipe.data.load()
    rows = run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed).validation
    again = reconstruction(run, run.autoencoder, examples, rows, "cpu")
    assert again.line().items() <= lines[-1].items()
    named = {"kl": {"kl"}, "vq": {"codes", "perplexity"}}[kind]
    assert {"psnr", "ssim", "latent_mean", "latent_std"} | named <= lines[-1].keys()
    assert not {"by_level", "t_bounds", "accuracy_by_level"} & lines[-1].keys()
    x0 = run.space.encode(torch.from_numpy(examples.items[rows]))
    made = run.autoencoder.decode(run.autoencoder.encode(x0)).clamp(-1, 1)
    error = (made - x0).double().square().mean((1, 2, 3))
    assert lines[-1]["psnr"] == pytest.approx(float((10 * (4 / error).log10()).mean()), abs=1e-5)
    z = run.autoencoder.encode(x0).transpose(0, 1).flatten(1).double()
    assert lines[-1]["latent_mean"] == pytest.approx(z.mean(1).tolist(), abs=1e-6)


def test_the_judge_has_no_say_before_its_time():
    """Until it is switched on all weights are those without it; then they part."""
    silent = [word for word in KINDS["judged"] if not word.startswith("loss.adversarial=")]
    plain, judged = metrics(autoencoder(*silent)), metrics(autoencoder(*KINDS["judged"]))
    at = {line["step"]: line["loss"] for line in judged if "loss" in line}
    own = {line["step"]: line["loss"] for line in plain if "loss" in line}
    assert at[3] == own[3]
    assert at[9] != own[9]


def test_a_sheet_shows_held_out_examples_above_what_becomes_of_them(tmp_path):
    run, examples = begun(tmp_path / "run", *AUTOENCODER)
    run = finished(run, examples)
    assert {p.name for p in (run.path / "samples").iterdir()} == {"00000000.png", "00000012.png"}
    assert json.loads(Image.open(run.path / "samples" / "00000012.png").info[pictures.KEY])["step"] == 12
    held_out = run.recipe.data.split(examples, 0.1, 0).validation

    class Perfect(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nothing = torch.nn.Parameter(torch.zeros(()))

        def encode(self, x):
            return x

        decode = encode

    def bands(step, f):
        page = np.asarray(Image.open(draw_rebuilt(run, f, step, Shown(examples, held_out))))
        high = 56 + 4  # an enlarged digit, and what is between two
        return [page[4 + i * high : 60 + i * high, -8 * 60 :] for i in range(8)]

    perfect, made = bands(1, Perfect()), bands(2, run.autoencoder)
    for given, rebuilt, ours, below in zip(perfect[::2], perfect[1::2], made[::2], made[1::2], strict=True):
        assert np.array_equal(given, rebuilt)
        assert np.array_equal(given, ours)
        assert not np.array_equal(given, below)
        assert given.std() > 50
    assert draw_rebuilt(run, run.autoencoder, 3, Shown(examples, held_out[:0])) is None


def test_what_needs_samples_says_what_it_is_for():
    path = autoencoder()
    for verb in ("sample", "tune"):
        assert cli(verb, path).sentence == purpose("autoencoder", path)
    assert purpose("autoencoder", path) in cli("report", path).sentence
    assert f"space.autoencoder={path}" in purpose("autoencoder", path)
    with pytest.raises(ValueError, match="no autoencoder"):
        _ = load(trained()).autoencoder


def test_info_tells_how_well_it_rebuilds():
    path = autoencoder()
    told = json.loads(cli("info", path, "--json").out)
    last = metrics(path)[-1]
    assert told["reconstruction"].startswith(f"PSNR {last['psnr']:.1f} dB")
    assert told["network"].startswith("kl (width=8")
    assert not {"process", "time label", "parameterization", "sampling"} & told.keys()


@pytest.mark.parametrize("kind", ["vq", "judged"])
def test_the_doctor_finds_nothing_wrong(kind):
    path = autoencoder(*KINDS[kind])
    before = hashes(path)
    told = json.loads(cli("doctor", path, "--device", "cpu", "--only", "run", "--json").out)["findings"]
    assert not [found for found in told if found["verdict"] == "FAIL"]
    looked = {found["check"] for found in told if found["verdict"] == "ok"}
    assert {"a step of training from the saved state", "held-out loss", "data"} <= looked
    assert hashes(path) == before


def test_it_is_told_nothing_of_classes_and_attributes(tmp_path):
    items = np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8)
    told = Attribute("size", np.arange(40, dtype=np.float32)[:, None])
    examples = Examples(items, image=True, labels=np.arange(40) % 2, classes=("a", "b"), attributes=(told,))
    run, _ = begun(tmp_path / "run", *AUTOENCODER, examples=examples)
    assert run.facts.attributes == ()
    assert run.classes == ()


def test_its_kind_chooses_its_loss_and_network():
    recipe = toy(*AUTOENCODER, "loss.kl=0.1", "autoencoder.kind=vq")
    assert recipe.loss == replace(Reconstruction(), kl=0.1)
    assert recipe.completed((1, 8, 8), image=True).net is None
    assert recipe.completed((1, 8, 8), image=True).autoencoder.kind == "vq"
    assert toy("kind=autoencoder").completed((1, 8, 8), image=True).autoencoder.kind == "kl"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("kind=autoencoder", "space.kind=latent"), r"space\.kind=pixels"),
        (("kind=autoencoder", "loss.kind=denoising"), r"loss\.kind=reconstruction"),
        (("kind=autoencoder", "evaluate.every=5"), r"evaluate\.every=0"),
        (("kind=autoencoder", "image_condition.kind=low_resolution"), "image_condition=none"),
        (("autoencoder.kind=kl",), r"autoencoder\.kind=kl is the network of kind=autoencoder"),
        (("loss.kind=reconstruction",), r"loss\.kind=denoising"),
    ],
    ids=lambda v: v[-1] if isinstance(v, tuple) else None,
)
def test_settings_that_contradict_each_other_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        toy(*settings)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("autoencoder.multipliers=[1, 1, 1, 1, 1]",), "8x8|multiple|divide"),
        (("autoencoder.halved=[true]",), "halved"),
        (("loss.perceptual=nowhere",), "nowhere"),
    ],
    ids=lambda v: v[-1] if isinstance(v, tuple) else None,
)
def test_what_does_not_fit_the_data_leaves_no_folder_behind(tmp_path, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        begun(tmp_path / "new" / "run", *AUTOENCODER, *settings)
    assert not list(tmp_path.iterdir())
