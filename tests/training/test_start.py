"""Beginning with the weights of another run: the network is at first what that one is, whatever else it is told."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from helpers import DOUBLE, close, randn
from staged import AUTOENCODER, images
from toys import DIT, MLP, SHORT, UNET, cli, copied, interrupted, outcome, toy, trained

from reverie.conditioning import Cond
from reverie.runs import begin, load, new_model
from reverie.tensor_files import read_tensors
from reverie.training import Trainer
from reverie.training.start import begin_with, fitted, stacked

EXAMPLES = images(40)
SMALL_UNET = (*UNET, "net.dropout=0")
NETS = {
    "mlp": MLP,
    "dit": (*DIT, "net.dropout=0"),
    "unet": SMALL_UNET,
    "ncsnpp": ("net.kind=ncsnpp", *SMALL_UNET[1:]),
    "edm2": ("net.kind=edm2", *SMALL_UNET[1:]),
    "refinenet": ("net.kind=refinenet", "net.width=8"),
}
MASKED = "image_condition.kind=masked"
ESTIMATE = "loss.kind=self_conditioned"


def stirred(path, *settings, examples=EXAMPLES):
    """A run of random weights."""
    run = begin(path, toy(*settings), examples)
    g = torch.Generator().manual_seed(0)
    weights = new_model(run.recipe, run.facts).net.state_dict()
    run.save_model({name: v + 0.2 * torch.randn(v.shape, generator=g) for name, v in weights.items()}, 0)
    return load(path)


def begun_with(path, source, *settings, examples=EXAMPLES):
    """The model of a new run in `path` with the weights of another."""
    run = begin(path, toy(*settings), examples)
    model = new_model(run.recipe, run.facts).eval()
    begin_with(model, str(source.path))
    return model.requires_grad_(False)


def example(n=2):
    x = randn(n, 1, 8, 8).float()
    return x, torch.tensor(0.5), Cond(label=torch.arange(n) % 2)


def picture(model, seed, n=2):
    return randn(n, model.net.conditions.image, 8, 8, seed=seed).float()


# ----------------------------------------------------------------------------- what it is at first


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_a_network_told_a_picture_begins_as_one_that_was_told_none(net, tmp_path):
    """Whatever the picture is; and it can learn to see it."""
    source = stirred(tmp_path / "source", *net)
    model = begun_with(tmp_path / "run", source, *net, MASKED)
    x, t, cond = example()
    before = source.denoiser(x, t, cond).x0
    assert before.abs().max() > 0.1
    for seed in (1, 2):
        assert close(model(x, t, replace(cond, image=picture(model, seed))).x0, before, 1e-5)
    model.requires_grad_(True)
    model(x, t, replace(cond, image=picture(model, 1))).x0.square().sum().backward()
    theirs = source.model.net.state_dict()
    wider = [(name, p) for name, p in model.net.named_parameters() if name in theirs and p.shape != theirs[name].shape]
    assert wider
    for name, p in wider:
        new = fitted(torch.zeros_like(theirs[name]), torch.ones_like(p), stacked(source.model.net), stacked(model.net))
        old = fitted(torch.ones_like(theirs[name]), p, stacked(source.model.net), stacked(model.net))
        assert new.abs().max() == 0
        assert p.grad[old == 0].abs().max() > 0


@pytest.mark.parametrize("net", [SMALL_UNET, NETS["edm2"], MLP], ids=["unet", "edm2", "mlp"])
def test_a_network_that_comes_to_see_its_estimate_sees_the_picture_as_before(net, tmp_path):
    """The estimate stands between x and the picture."""
    source = stirred(tmp_path / "source", *net, MASKED)
    model = begun_with(tmp_path / "run", source, *net, MASKED, ESTIMATE)
    x, t, cond = example()
    shown = replace(cond, image=picture(model, 1))
    assert not close(source.denoiser(x, t, shown).x0, source.denoiser(x, t, cond).x0, 1e-2)
    for estimate in (None, randn(2, 1, 8, 8, seed=4).float()):
        assert close(model(x, t, replace(shown, estimate=estimate)).x0, source.denoiser(x, t, shown).x0, 1e-5)


def test_the_same_network_has_the_same_weights(tmp_path):
    source = stirred(tmp_path / "source", *MLP)
    model = begun_with(tmp_path / "run", source, *MLP, "train.seed=7", "parameterization.kind=x0")
    ours, theirs = model.net.state_dict(), source.model.net.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_the_source_has_not_is_as_it_is_drawn(tmp_path):
    """A table of classes; what the source has beyond is not left behind in silence."""
    without = stirred(tmp_path / "source", *MLP, "labels=false")
    model = begun_with(tmp_path / "run", without, *MLP)
    drawn = new_model(load(tmp_path / "run").recipe, load(tmp_path / "run").facts).net.state_dict()
    theirs, ours = without.model.net.state_dict(), model.net.state_dict()
    new = ours.keys() - theirs.keys()
    assert new == {"conditioning.table.weight"}
    assert all(torch.equal(ours[name], drawn[name]) for name in new)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    with pytest.raises(ValueError, match=r"no place for, such as conditioning\.table"):
        begun_with(tmp_path / "again", stirred(tmp_path / "with", *MLP), *MLP, "labels=false")


def test_new_channels_are_zero_and_others_are_where_they_are_now():
    theirs, own = randn(3, 2, 3, 3), torch.ones(3, 5, 3, 3, dtype=DOUBLE)
    made = fitted(theirs, own)
    assert torch.equal(made[:, :2], theirs)
    assert made[:, 2:].abs().max() == 0
    before = [("x", 0), ("ones", 0)]
    now = [("x", 0), ("image", 0), ("image", 1), ("image", 2), ("ones", 0)]
    made = fitted(theirs, own, before, now)
    assert torch.equal(made[:, [0, 4]], theirs)
    assert made[:, 1:4].abs().max() == 0
    flat = fitted(theirs.flatten(1)[:, :, None], own.flatten(1)[:, :, None], before, now)  # several numbers of each
    assert torch.equal(flat.reshape(made.shape), made)
    assert torch.equal(own, torch.ones_like(own))
    assert fitted(theirs, randn(3, 2, 3, 3, seed=1)) is theirs
    for other in (randn(4, 2, 3, 3), randn(3, 1, 3, 3), randn(3, 5, 3, 1), randn(3)):
        assert fitted(theirs, other) is None


# ----------------------------------------------------------------------------------- in training


class Unmoved(Trainer):
    """Is about to take its first step."""

    def _steps(self, found):
        yield from ()


def test_training_begins_there_and_so_do_its_averages(tmp_path):
    lengths = "train.ema_lengths=[0.05, 0.1]"
    source = stirred(tmp_path / "source", *SMALL_UNET)
    run = begin(tmp_path / "run", toy(*SMALL_UNET, MASKED, f"train.start={source.path}", lengths), EXAMPLES)
    trainer = Unmoved(run, EXAMPLES)
    list(trainer)
    x, t, cond = example()
    before = source.denoiser(x, t, cond).x0
    with torch.no_grad():
        for model in (trainer.learner.denoiser, trainer.learner.average):
            assert close(model.eval()(x, t, replace(cond, image=picture(model, 1))).x0, before, 1e-5)
        nets = trainer.learner.powers.of(trainer.learner.denoiser.net)
        assert list(nets) == [0.05, 0.1]
        own = trainer.learner.denoiser.net.state_dict()
        for weights in nets.values():
            assert all(torch.equal(weights[name], own[name]) for name in own)


def test_it_is_recorded_and_a_run_that_was_begun_otherwise_does_not_go_on(tmp_path):
    source = trained()
    words = ("train", "digits", *MLP, *SHORT, f"train.start={source}", "--out", tmp_path / "run")
    assert cli(*words).code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["recipe"]["train"]["start"] == str(source)
    assert load(tmp_path / "run").recipe.train.start == str(source)
    own, theirs = (load(path).model.net.state_dict() for path in (tmp_path / "run", source))
    assert any(not torch.equal(own[name], theirs[name]) for name in own)
    said = cli("train", "digits", *MLP, *SHORT, "--out", tmp_path / "run").sentence
    assert "is a run of another recipe: train.start is" in said


def test_a_run_that_was_stopped_goes_on_and_does_not_begin_again(tmp_path):
    """As if it had not been stopped, though what it began with is gone."""
    source = copied(tmp_path / "source")
    whole, stopped = (f"train.start={source}", "train.steps=8"), tmp_path / "stopped"
    run = begin(tmp_path / "whole", toy(*whole), toy(*whole).data.load())
    for _ in Trainer(run, run.recipe.data.load()):
        pass
    run = begin(stopped, toy(*whole), run.recipe.data.load())
    for report in Trainer(run, run.recipe.data.load()):
        if report.step == 5:
            break
    shutil.rmtree(source)
    for _ in Trainer(load(stopped), run.recipe.data.load()):
        pass
    ours, theirs = outcome(stopped), outcome(tmp_path / "whole")
    assert ours["model"] == theirs["model"]
    assert ours["metrics"] == theirs["metrics"]


def test_learning_nothing_leaves_it_what_it_was(tmp_path):
    """By a rate of 0: what is saved is the source's own."""
    source = trained()
    none = (f"train.start={source}", "train.lr=1e-30", "train.weight_decay=0")
    path = interrupted(tmp_path / "run", 5, *none)
    ours, theirs = (read_tensors(where / "model.safetensors") for where in (path, source))
    assert all(close(ours[name], theirs[name], 1e-6) for name in theirs)


# --------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ("net.width=24",),
            r"\(conditioning.time_in.weight: \(16, 16\), here \(24, 24\)\); give net the settings",
        ),
        (DIT, r"\(.*: \(\d+, \d+\), here \(\d+, .*\)\)"),
        (("kind=classifier",), r"\(out.weight: \(64, 16\), here \(10, 128\)\)"),
        (AUTOENCODER, r"\(names: no weight is the same\)"),
    ],
    ids=["width", "dit", "classifier", "autoencoder"],
)
def test_a_run_of_another_network(settings, sentence, tmp_path):
    words = (*settings, f"train.start={trained()}")
    with pytest.raises(ValueError, match=f"train.start=.* is a run of another network {sentence}"):
        begin(tmp_path / "run", toy(*words), toy(*words).data.load())
    assert not (tmp_path / "run").exists()


def test_a_run_that_sees_more_is_none_to_begin_with(tmp_path):
    source = stirred(tmp_path / "source", *MLP, MASKED)
    with pytest.raises(ValueError, match="is a run of another network"):
        begun_with(tmp_path / "run", source, *MLP)


def test_a_folder_that_is_missing_or_no_run(tmp_path):
    for name in ("nowhere", "."):
        said = cli("train", "digits", *MLP, *SHORT, f"train.start={tmp_path / name}", "--out", tmp_path / "run")
        assert "is not a run folder: it has no config.json" in said.sentence
        shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_a_start_that_would_be_another_thing_is_refused_and_leaves_nothing(tmp_path):
    """So that the same command with what is right makes the run."""
    source = stirred(tmp_path / "source", *DIT)
    deeper = stirred(tmp_path / "deeper", *DIT, "net.depth=2")
    for words, start, settings in (
        ("parameterization", source, ("parameterization.kind=v", "loss.notation=v")),
        ("time_label", source, ("time_label.kind=time",)),
        ("no place for", deeper, ()),
    ):
        with pytest.raises(ValueError, match=words):
            begin(tmp_path / "run", toy(*DIT, *settings, f"train.start={start.path}"), EXAMPLES)
        assert not (tmp_path / "run").exists()
    begin(tmp_path / "run", toy(*DIT, f"train.start={source.path}"), EXAMPLES)


# ------------------------------------------------------------------- where something else comes out


@pytest.mark.parametrize("net", NETS)
def test_of_a_network_that_puts_out_a_variance_besides_the_mean_is_taken(tmp_path, net):
    variance = ("improved_ddpm", *MLP, *SHORT, *NETS[net])
    other = stirred(tmp_path / "other", *variance)
    model = begun_with(tmp_path / "new", other, *variance, "parameterization.kind=eps", "loss.kind=denoising")
    x, t, cond = example()
    t = t.expand(2)
    both = other.model.net(x, t, cond)
    assert both.shape[1] == 2 * model.net(x, t, cond).shape[1]
    assert close(model.net(x, t, cond), both[:, :1], 1e-6)
