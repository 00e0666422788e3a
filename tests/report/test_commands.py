"""The command that a report prints makes the run again."""

import shlex
from dataclasses import replace

import pytest
from toys import MLP, SHORT, begun, trained

from reverie import config
from reverie.cli.compose import composed
from reverie.recipe import compose, library
from reverie.report import commands
from reverie.runs import load
from reverie.stages import StageFact


def again(run):
    """The recipe that the printed words make, completed by the data."""
    verb, name, *words = shlex.split(commands.train(run))
    assert (verb, name, words[-2], words[-1]) == ("reverie", "train", "--out", str(run.path))
    return composed(words[:-2])[0].completed(run.facts.shape, run.facts.image, run.facts.captions > 0)


def differences(run):
    fitted = ("space.mean", "space.std")
    found = config.differences(config.to_data(run.recipe), config.to_data(again(run)))
    return [d for d in found if d[0] not in fitted]


SETTINGS = {
    "own": (),
    "schedule": ("schedule.kind=table", "schedule.betas.kind=cosine", "parameterization.kind=eps", "loss.notation=eps"),
    "net": ("net.kind=dit", "net.width=16", "net.depth=1", "net.heads=2"),
    "sampling": ("sample.sampler.kind=ddim", "sample.sampler.eta=0.5", "sample.guidance=2.5", "sample.clip=true"),
    "lists": ("train.betas=[0.9, 0.95]", "train.ema_lengths=[]", "labels=false"),
    "nested": ("schedule.kind=ve", "parameterization.kind=edm", "loss.notation=x0", "loss.weight.kind=edm"),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_run_of_digits_again(settings, tmp_path):
    assert differences(begun(tmp_path / "run", *settings)[0]) == []


@pytest.mark.parametrize("name", library())
def test_every_recipe_of_the_library_again(name):
    run = load(trained())
    layer = config.read_file(library()[name])
    stages = tuple(StageFact(stage, "") for stage in layer.pop("stages", {}))
    recipe = compose([layer, {"data": {"kind": "swissroll" if name == "swissroll" else "digits"}}])
    if name == "swissroll":
        run.facts = replace(run.facts, shape=(2,), image=False, classes=())
    run.facts = replace(run.facts, captions=100 if recipe.text else 0, stages=stages)
    run.recipe = recipe.completed(run.facts.shape, run.facts.image, run.facts.captions > 0)
    assert differences(run) == []


def test_words_are_few_where_little_differs():
    run = load(trained())
    assert commands.words(run)[0] == "digits"
    said = {word.partition("=")[0] for word in commands.words(run)[1:]}
    assert said <= {word.partition("=")[0] for word in (*MLP, *SHORT)}


def test_a_path_with_spaces_is_quoted(tmp_path):
    run = begun(tmp_path / "my run")[0]
    assert shlex.split(commands.with_run("evaluate", run)) == ["reverie", "evaluate", str(tmp_path / "my run")]
