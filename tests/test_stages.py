"""Stages: a run is one folder that works wherever it lies, and refuses what it was not trained with."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from staged import (  # noqa: F401  # a fixture
    AUTOENCODER,
    begun_autoencoder,
    images,
    latent,
    own_cache,
    same_weights,
)
from toys import MLP, begun, hashes, toy

from reverie import stages
from reverie.config import from_data, to_data
from reverie.data.smaller import smaller
from reverie.runs import CONFIG, MODEL, begin, load, new_model
from reverie.stages import StageFact, check_wanted, named_in, wanted
from reverie.training import Trainer

EXAMPLES = images(40)


def saved(path, *settings, examples=EXAMPLES, needed=None):
    """A run with the weights that it begins with."""
    run = begin(path, toy(*settings), examples, needed)
    run.save_model(new_model(run.recipe, run.facts).net.state_dict(), 0)
    return load(path)


LOW = ("image_condition.kind=low_resolution", "image_condition.factor=2")


def base_of(path, examples=None, *settings):
    """A base of 4x4 pictures."""
    return saved(path, "data.kind=smaller", "data.data.kind=digits", *settings,
                 examples=smaller(EXAMPLES, 2) if examples is None else examples)  # fmt: skip


def refused(path, sentence, make):
    """What the function raises; nothing that was there is changed, and nothing new is left."""

    def there():
        return {name: found for name, found in hashes(path).items() if not name.startswith("cache/")}

    before = there()
    with pytest.raises(ValueError, match=sentence) as caught:
        make()
    assert there() == before
    assert not list(path.rglob(".*.*"))
    return str(caught.value)


# ---------------------------------------------------------------------------- one folder, anywhere


def test_a_run_is_a_copy_of_its_stages_and_works_without_the_originals(tmp_path):
    run = latent(tmp_path / "run", EXAMPLES, "train.flip=true")
    original = tmp_path / "run-autoencoder"
    for name in ("state", "samples", "ema"):
        (original / name).mkdir(exist_ok=True)
        (original / name / "large").write_text("not needed")
    x = run.sample(5, seed=3)
    shutil.rmtree(original)
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    (tmp_path / "run").rename(moved)
    shutil.rmtree(tmp_path / "cache")
    assert torch.equal(load(moved).sample(5, seed=3), x)
    assert load(moved).stage("autoencoder").path == moved / "autoencoder"


def test_what_is_copied_is_what_a_stage_needs(tmp_path):
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)
    for name in ("state", "samples", "ema"):
        (source.path / name).mkdir(exist_ok=True)
        (source.path / name / "large").write_text("not needed")
    for name in ("report.html", "sheet.png", ".lock"):
        (source.path / name).write_text("made of it")
    (source.path / "tuned.json").write_text("{}")
    run = saved(tmp_path / "run", *MLP, "space.kind=latent", f"space.autoencoder={source.path}")
    there = set(hashes(run.path / "autoencoder"))
    assert there == {CONFIG, MODEL, "tuned.json"}
    assert same_weights(run.stage("autoencoder"), source)


def test_samples_are_the_same_in_any_batch_and_from_any_start(tmp_path):
    run = latent(tmp_path / "run", EXAMPLES)
    whole = run.sample(20, seed=1)
    assert torch.equal(torch.cat([run.sample(7, seed=1, start=s)[: 20 - s] for s in (0, 7, 14)]), whole)
    assert torch.equal(run.sample(20, seed=1, batch=3), whole)
    assert not torch.equal(run.sample(20, seed=2), whole)


def test_a_stage_is_opened_once(tmp_path):
    run = latent(tmp_path / "run", EXAMPLES)
    assert run.stage("autoencoder") is run.stage("autoencoder")
    with pytest.raises(ValueError, match="has no stage base; it has: autoencoder"):
        run.stage("base")
    with pytest.raises(ValueError, match="it has: none"):
        run.stage("autoencoder").stage("base")


# --------------------------------------------------------------------------------- what is refused


@pytest.fixture
def run(tmp_path):
    return latent(tmp_path / "run", EXAMPLES)


def put(source, target):
    shutil.rmtree(target)
    shutil.copytree(source, target)


def test_another_autoencoder_in_its_place(run, tmp_path):
    other = begun_autoencoder(tmp_path / "other", EXAMPLES, 1)
    put(other.path, run.path / "autoencoder")
    for use in (lambda r: r.sample(2), lambda r: r.space, lambda r: next(iter(Trainer(r, EXAMPLES)))):
        refused(
            run.path,
            "is not the autoencoder that .* was trained with: its weights",
            lambda use=use: use(load(run.path)),
        )


def test_its_weights_trained_further(run):
    stage = run.stage("autoencoder")
    more = {name: v + 1e-3 for name, v in stage.autoencoder.net.state_dict().items()}
    stage.save_model(more, 1)
    refused(run.path, "its weights are others", lambda: load(run.path).space)


def test_a_stage_that_is_missing(run):
    (run.path / "autoencoder").rename(run.path.with_name("gone"))
    refused(run.path, "lacks its stage autoencoder", lambda: load(run.path).sample(2))
    assert load(run.path).facts.shape == (1, 8, 8)  # what needs no autoencoder still opens


def test_a_stage_of_another_kind(run, tmp_path):
    other = saved(tmp_path / "other", *MLP)
    put(other.path, run.path / "autoencoder")
    refused(run.path, "is a run of kind=denoiser", lambda: load(run.path).space)


def new(tmp_path, source, *settings, examples=EXAMPLES):
    words = (*MLP, "space.kind=latent", f"space.autoencoder={source}", *settings)
    return lambda: saved(tmp_path / "new" / "run", *words, examples=examples)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("denoiser", "the stage autoencoder is a run of kind=autoencoder; .*other is of kind=denoiser"),
     ("classifier", "of kind=classifier")],
)  # fmt: skip
def test_a_run_of_another_kind_as_an_autoencoder(tmp_path, kind, sentence):
    other = saved(tmp_path / "other", *MLP, f"kind={kind}")
    refused(tmp_path, sentence, new(tmp_path, other.path))


def test_one_that_has_not_been_saved(tmp_path):
    other, _ = begun(tmp_path / "other", *AUTOENCODER, examples=EXAMPLES)
    refused(tmp_path, "model.safetensors is missing", new(tmp_path, other.path))


def test_one_that_is_not_there(tmp_path):
    refused(tmp_path, "nowhere is not a run folder", new(tmp_path, "nowhere"))


def test_none_at_all(tmp_path):
    refused(tmp_path, r"needs the stage autoencoder: give space\.autoencoder=RUN", lambda: saved(
        tmp_path / "run", *MLP, "space.kind=latent"))  # fmt: skip


def test_one_of_examples_with_other_channels(tmp_path):
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)
    make = new(tmp_path, source.path, examples=images(40, (3, 8, 8)))
    refused(tmp_path, r"an autoencoder of examples of \(1, 8, 8\), and its weights fit none of \(3, 8, 8\)", make)


def test_a_linear_one_of_examples_of_another_shape(tmp_path):
    linear = ("kind=autoencoder", "autoencoder.kind=linear", "autoencoder.channels=5")
    source = saved(tmp_path / "autoencoder", *linear)
    assert new(tmp_path, source.path)().shape == (5,)
    make = new(tmp_path / "other", source.path, examples=images(40, (1, 8, 4)))
    refused(tmp_path, r"fit none of \(1, 8, 4\)", make)


def test_one_of_pictures_for_arrays(tmp_path):
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)
    arrays = replace(EXAMPLES, items=EXAMPLES.items.astype(np.float32), image=False)
    refused(tmp_path, r"space\.kind=pixels is for 8-bit images", new(tmp_path, source.path, examples=arrays))


def test_sides_that_it_does_not_divide(tmp_path):
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)
    odd = replace(EXAMPLES, items=np.ascontiguousarray(EXAMPLES.items[..., :7]))
    refused(tmp_path, r"f = 2 x 2, which do not divide those of examples of \(1, 8, 7\)", new(
        tmp_path, source.path, examples=odd))  # fmt: skip


@pytest.mark.parametrize("kind", ["edges", "grey"])
def test_an_image_condition_made_of_pixels(tmp_path, kind):
    colour = images(40, (3, 8, 8))
    source = begun_autoencoder(tmp_path / "autoencoder", colour)
    make = new(tmp_path, source.path, f"image_condition.kind={kind}", examples=colour)
    refused(tmp_path, f"image_condition.kind={kind} is made of pixels, and space.kind=latent has none", make)


def test_stages_that_are_of_no_use(tmp_path):
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)
    for name in ("autoencoder", "base", "other"):
        refused(tmp_path, rf"stages\.{name} is of no use to this recipe; .* has use for: none", lambda n=name: (
            saved(tmp_path / "run", *MLP, needed={n: source.path})))  # fmt: skip


def test_a_folder_that_holds_something_else(tmp_path):
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)
    (tmp_path / "new" / "run").mkdir(parents=True)
    (tmp_path / "new" / "run" / "letter.txt").write_text("mine")
    refused(tmp_path, "is not a run of this recipe", new(tmp_path, source.path))


# ------------------------------------------------------------------------------------ going on


def again(path, source):
    """The same command once more, with that autoencoder."""
    return begin(path, toy(*MLP, "space.kind=latent", f"space.autoencoder={source}"), EXAMPLES)


def test_going_on_with_another_autoencoder(run, tmp_path):
    other = begun_autoencoder(tmp_path / "other", EXAMPLES, 1)
    refused(run.path, "begun with another autoencoder than .*other", lambda: again(run.path, other.path))
    for same in (tmp_path / "run-autoencoder", run.path / "autoencoder"):
        assert again(run.path, same).facts == run.facts
    shutil.rmtree(tmp_path / "run-autoencoder")
    said = refused(run.path, "is missing", lambda: again(run.path, tmp_path / "run-autoencoder"))
    assert said.endswith(str(run.path / "autoencoder"))


def test_a_stage_that_the_run_was_begun_without(tmp_path):
    plain = saved(tmp_path / "run", *MLP, *LOW)
    base = base_of(tmp_path / "base")
    refused(tmp_path, "was begun without the stage base", lambda: begin(
        plain.path, toy(*MLP, *LOW), EXAMPLES, {"base": base.path}))  # fmt: skip


def test_a_beginning_that_was_cut_off_is_begun_again(tmp_path):
    """The stage is there, its copy half made, and there is no config.json yet."""
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)
    path = tmp_path / "new" / "run"
    stages.copy(source.path, path / "autoencoder")
    stages.copy(source.path, path / ".autoencoder.0123456789ab")
    (path / ".autoencoder.0123456789ab" / MODEL).unlink()
    made = new(tmp_path, source.path)()
    assert same_weights(made.stage("autoencoder"), source)
    assert not list(path.glob(".autoencoder*"))


def test_a_stage_that_is_there_is_not_replaced_by_another(tmp_path):
    source, other = (begun_autoencoder(tmp_path / f"autoencoder-{i}", EXAMPLES, i) for i in (0, 1))
    stages.copy(source.path, tmp_path / "new" / "run" / "autoencoder")
    refused(tmp_path, "is there already, and is another autoencoder", new(tmp_path, other.path))


def test_what_fails_while_a_run_is_begun_leaves_its_stages(tmp_path):
    """Stages trained in the folder of the run stay; only what was new there goes."""
    base_of(tmp_path / "run" / "base", smaller(images(40, (1, 16, 16)), 2))
    refused(tmp_path, "does not fit", lambda: saved(
        tmp_path / "run", *MLP, *LOW, needed={"base": tmp_path / "run" / "base"}))  # fmt: skip


# -------------------------------------------------------------------------------- a base and its run


def test_a_base_of_other_sizes_or_of_other_data(tmp_path):
    large = base_of(tmp_path / "large", smaller(images(40, (1, 16, 16)), 2))
    strange = base_of(tmp_path / "strange", smaller(images(40, seed=5), 2))
    for base, sentence in (
        (large, r"it draws \(1, 8, 8\), and \(1, 4, 4\) are enlarged"),
        (strange, "trained on other data; train it on data.kind=smaller data.factor=2"),
    ):
        refused(tmp_path, sentence, lambda base=base: saved(
            tmp_path / "run", *MLP, *LOW, needed={"base": base.path}))  # fmt: skip


def test_a_base_under_latents(tmp_path):
    """Means of latents are not the latents of means."""
    source, base = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES), base_of(tmp_path / "base")
    words = (*MLP, "space.kind=latent", f"space.autoencoder={source.path}", *LOW)
    refused(tmp_path, "stages.base is of no use to this recipe; stages that it has use for: autoencoder", lambda: saved(
        tmp_path / "run", *words, needed={"base": base.path}))  # fmt: skip
    assert saved(tmp_path / "run", *words).recipe.image_condition.factor == 2  # to be told a picture it is fit


def test_a_base_may_be_trained_further_but_not_be_of_other_data(tmp_path):
    base = base_of(tmp_path / "base")
    run = saved(tmp_path / "run", *MLP, *LOW, needed={"base": base.path})
    for each in (run, run.stage("base")):  # weights begin with an output of 0
        each.save_model({name: v + 0.1 for name, v in each.denoiser.net.state_dict().items()}, 1)
    before = load(run.path).sample(4)
    stage = load(run.path).stage("base")
    stage.save_model({name: v + 0.1 for name, v in stage.denoiser.net.state_dict().items()}, 2)
    assert not torch.equal(load(run.path).sample(4), before)
    other = base_of(tmp_path / "other", smaller(images(40, seed=5), 2))
    put(other.path, run.path / "base")
    refused(run.path, "was trained on other data than the base that", lambda: load(run.path).sample(2))


# ---------------------------------------------------------------------------------------- facts


def test_what_a_run_knows_of_its_stages_is_stored(run):
    (known,) = run.facts.stages
    assert known == stages.fact(run.path / "autoencoder", "autoencoder")
    assert from_data(StageFact, to_data(known), "") == known
    assert load(run.path).facts.stages == run.facts.stages


@pytest.mark.parametrize("name", ["../other", "/tmp/other", "autoencoder/../../other", "state"])
def test_a_stage_that_leads_out_of_the_folder_is_none(run, name):
    data = json.loads((run.path / CONFIG).read_text())
    data["facts"]["stages"][0]["name"] = name
    (run.path / CONFIG).write_text(json.dumps(data))
    refused(run.path, "there is no stage", lambda: load(run.path))


def test_what_a_recipe_has_use_for():
    assert wanted(toy()) == {}
    assert wanted(toy(*LOW)) == {"base": False}
    assert wanted(toy("space.kind=latent", "space.autoencoder=runs/two")) == {"autoencoder": True}
    judged = toy(*AUTOENCODER, "loss.perceptual=runs/one")
    assert wanted(judged) == {"perceptual": True}
    assert named_in(judged) == {"perceptual": "runs/one"}
    assert named_in(toy("space.kind=latent", "space.autoencoder=runs/two")) == {"autoencoder": "runs/two"}
    check_wanted(toy(*LOW), [])
    with pytest.raises(ValueError, match=r"give loss\.perceptual=RUN"):
        check_wanted(judged, [])


def test_a_classifier_judges_an_autoencoder(tmp_path):
    """As its stage: what is compared are its features, and another one in its place is refused."""
    classifier = saved(tmp_path / "classifier", *MLP, "kind=classifier")
    run, _ = begun(tmp_path / "run", *AUTOENCODER, f"loss.perceptual={classifier.path}", examples=EXAMPLES)
    assert [each.name for each in run.facts.stages] == ["perceptual"]
    shutil.rmtree(classifier.path)
    losses = [report.loss for report in Trainer(load(run.path), EXAMPLES) if report.loss is not None]
    plain, _ = begun(tmp_path / "plain", *AUTOENCODER, examples=EXAMPLES)
    others = [report.loss for report in Trainer(plain, EXAMPLES) if report.loss is not None]
    assert losses[0] > others[0]
    other = saved(tmp_path / "other", *MLP, "kind=classifier", "train.seed=1")
    put(other.path, run.path / "perceptual")
    refused(run.path, "is not the perceptual that", lambda: next(iter(Trainer(load(run.path), EXAMPLES))))


def test_no_stage_is_executed(tmp_path):
    """Weights are safetensors: a pickle in their place is damaged, no more."""
    source = begun_autoencoder(tmp_path / "autoencoder", EXAMPLES)

    class Told:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save(Told(), source.path / MODEL)
    refused(tmp_path, "damaged", new(tmp_path, source.path))
