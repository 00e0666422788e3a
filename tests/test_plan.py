"""A plan: the recipe of a run and those of its stages, which share its data and its split unless they say otherwise."""

from pathlib import Path

import pytest
from toys import cli

from reverie.cli.compose import planned_by
from reverie.cli.train import strictly
from reverie.config import from_data, to_data
from reverie.data import Fashion, Folder, Smaller
from reverie.data.embeddings import Embeddings
from reverie.plan import Plan, planned
from reverie.recipe import Recipe, compose, library

DIGITS = {"data": "digits"}
LATENT = {"space": {"kind": "latent"}}
LOW = {"image_condition": {"kind": "low_resolution", "factor": 2}}


def made(*layers):
    return planned([DIGITS, *layers])


def test_without_stages_it_is_a_recipe():
    plan = made({"train": {"steps": 7}})
    assert plan == Plan(compose([DIGITS, {"train": {"steps": 7}}]))
    assert plan.to_data() == to_data(plan.recipe)
    assert list(plan.recipes()) == [plan.recipe]


def test_a_stage_shares_what_is_of_the_data_and_nothing_else():
    run = {
        "labels": False, "captions": False,
        "train": {"seed": 3, "validation": 0.2, "precision": "bf16", "steps": 9, "lr": 0.5, "batch": 4, "flip": True},
        "sample": {"guidance": 3.0},
    }  # fmt: skip
    stage = made(LATENT, run, {"stages": {"autoencoder": {}}}).stages["autoencoder"]
    own, plain = stage.recipe, compose([DIGITS, {"kind": "autoencoder"}])
    shared = {"labels": False, "captions": False, "train": {"seed": 3, "validation": 0.2, "precision": "bf16"}}
    assert own == compose([DIGITS, {"kind": "autoencoder"}, shared])
    assert (own.train.steps, own.train.lr, own.sample) == (plain.train.steps, plain.train.lr, plain.sample)


def test_what_a_stage_says_itself_goes_before():
    own = {"train": {"seed": 5, "steps": 11}, "loss": {"kl": 0.5}, "autoencoder": {"kind": "vq"}}
    stage = made(LATENT, {"train": {"seed": 3, "validation": 0.2}}, {"stages": {"autoencoder": own}}).stages[
        "autoencoder"
    ]
    assert (stage.recipe.train.seed, stage.recipe.train.steps, stage.recipe.train.validation) == (5, 11, 0.2)
    assert stage.recipe.loss.kl == 0.5
    assert stage.recipe.autoencoder.kind == "vq"


def test_later_layers_go_before_earlier_ones_in_stages_too():
    first = {"stages": {"base": {"train": {"steps": 5, "batch": 3}}}}
    plan = made(LOW, first, {"stages": {"base": {"train": {"steps": 6}}}})
    assert (plan.stages["base"].recipe.train.steps, plan.stages["base"].recipe.train.batch) == (6, 3)
    assert made(LOW, first, {"stages": {"base": "runs/base"}}).stages == {"base": Path("runs/base")}


def test_smaller_data_are_those_of_the_run():
    plan = made(LOW, {"stages": {"base": {"data": {"kind": "smaller", "factor": 2}}}})
    assert plan.stages["base"].recipe.data.data == plan.recipe.data
    other = {"kind": "smaller", "factor": 2, "data": {"kind": "fashion"}}
    assert made(LOW, {"stages": {"base": {"data": other}}}).stages["base"].recipe.data.data.kind == "fashion"


def test_stages_have_stages():
    """A base of its own autoencoder."""
    base = {"space": {"kind": "latent"}, "stages": {"autoencoder": {"train": {"steps": 3}}}}
    plan = made(LOW, {"stages": {"base": {"data": {"kind": "smaller", "factor": 2}, **base}}})
    inner = plan.stages["base"].stages["autoencoder"]
    assert inner.recipe.data == plan.stages["base"].recipe.data
    assert [r.kind for r in plan.recipes()] == ["autoencoder", "denoiser", "denoiser"]
    assert next(iter(plan.recipes())).train.steps == 3
    assert list(plan.recipes())[-1] == plan.recipe


def test_a_folder_in_the_place_of_a_table():
    named = made(LATENT, {"space": {"autoencoder": "runs/one"}})
    assert named.stages == {"autoencoder": Path("runs/one")}
    told = made(LATENT, {"stages": {"autoencoder": "runs/one"}})
    assert told.stages == named.stages
    # so that a recipe with a table can be used with a trained stage
    table = {**LATENT, "stages": {"autoencoder": {"train": {"steps": 5}, "loss": {"kl": 0.1}}}}
    for folder in ({"space": {"autoencoder": "runs/one"}}, {"stages": {"autoencoder": "runs/one"}}):
        assert made(table, folder).stages == named.stages


STEPS = {"stages": {"autoencoder": {"train": {"steps": 3}}}}
FOLDERS = [{"space": {"autoencoder": "runs/one"}}, {"stages": {"autoencoder": "runs/one"}}]


@pytest.mark.parametrize("folder", FOLDERS, ids=["setting", "stage"])
@pytest.mark.parametrize("settings", [STEPS, {**STEPS, "net": {"kind": "mlp"}}], ids=["one", "many"])
def test_settings_beside_a_folder_are_refused_in_any_order(folder, settings):
    recipe = {**LATENT, "stages": {"autoencoder": {"loss": {"kl": 0.1}}}}
    sentence = r"the stage autoencoder is given as a folder.* stages\.autoencoder\.train means nothing to it"
    with pytest.raises(ValueError, match=sentence):
        made(recipe, folder, settings)
    if len(settings) == 1:  # a word of the command line; several would be a recipe, which the folder is laid over
        with pytest.raises(ValueError, match=sentence):
            made(recipe, settings, folder)


def test_a_table_and_a_folder_of_one_recipe_are_refused():
    with pytest.raises(ValueError, match="the stage autoencoder is given as a folder"):
        made({"space": {"kind": "latent", "autoencoder": "runs/one"}, "stages": {"autoencoder": {"loss": {"kl": 1.0}}}})


def test_two_folders_for_one_stage_are_refused():
    with pytest.raises(ValueError, match="two folders for the stage autoencoder, runs/two and runs/one"):
        made(LATENT, {"space": {"autoencoder": "runs/one"}}, {"stages": {"autoencoder": "runs/two"}})


def test_a_misspelt_key_is_found_in_a_table_that_a_folder_is_laid_over():
    table = {**LATENT, "stages": {"autoencoder": {"trian": {"steps": 5}, "loss": {"kl": 0.1}}}}
    with pytest.raises(ValueError, match=r"stages\.autoencoder: .*trian"):
        made(table, {"space": {"autoencoder": "runs/one"}})


JUDGED = {"kind": "autoencoder", "loss": {"perceptual": "stage"}}


def test_a_classifier_that_judges_an_autoencoder_is_trained_as_its_stage():
    plan = made(JUDGED, {"stages": {"perceptual": {"train": {"steps": 3}}}})
    stage = plan.stages["perceptual"].recipe
    assert (stage.kind, stage.train.steps, stage.data) == ("classifier", 3, plan.recipe.data)
    inner = {"loss": {"perceptual": "stage"}, "stages": {"perceptual": {"train": {"steps": 3}}}}
    deep = made(LATENT, {"stages": {"autoencoder": inner}})
    assert [recipe.kind for recipe in deep.recipes()] == ["classifier", "autoencoder", "denoiser"]
    assert planned([deep.to_data()]) == deep
    assert made(JUDGED, {"stages": {"perceptual": "runs/one"}}).stages == {"perceptual": Path("runs/one")}
    with pytest.raises(ValueError, match=r"needs the stage perceptual: give loss\.perceptual=RUN, or a table"):
        made(JUDGED)
    with pytest.raises(ValueError, match=r"stages\.perceptual is of no use.*set loss\.perceptual=stage"):
        made({"kind": "autoencoder"}, {"stages": {"perceptual": {"train": {"steps": 3}}}})
    with pytest.raises(ValueError, match="the stage perceptual is given as a folder"):
        made({"kind": "autoencoder", "loss": {"perceptual": "runs/one"}, "stages": {"perceptual": {"labels": True}}})


@pytest.mark.parametrize("factor", [2, 4])
def test_a_base_learns_the_pictures_that_its_run_enlarges(factor):
    """Unless it says otherwise, so that one number stands in one place."""
    run = {"image_condition": {"kind": "low_resolution", "factor": factor}}
    for told in ({}, {"train": {"steps": 3}}, {"data": {"kind": "smaller"}}, {"data": {"factor": factor}}):
        plan = made(run, {"stages": {"base": told}})
        assert plan.stages["base"].recipe.data == Smaller(plan.recipe.data, factor), told
    own = made(run, {"stages": {"base": {"data": "fashion"}}})
    assert own.stages["base"].recipe.data == Fashion()


def test_of_the_data_of_a_base_some_settings_may_be_its_own():
    run = {"data": {"kind": "folder", "path": "somewhere", "size": 64}, **LOW}
    base = planned([run, {"stages": {"base": {"data": {"data": {"size": 32}}}}}]).stages["base"].recipe
    assert base.data == Smaller(Folder("somewhere", size=32), 2)


def test_a_base_of_a_base_is_smaller_still():
    middle = {"image_condition": {"kind": "low_resolution", "factor": 4}, "stages": {"base": {}}}
    plan = made(LOW, {"stages": {"base": middle}})
    below = plan.stages["base"].stages["base"].recipe
    assert below.data == Smaller(Smaller(plan.recipe.data, 2), 4)


def test_it_is_written_as_it_is_read():
    for layers in (
        [LATENT, {"stages": {"autoencoder": {"train": {"steps": 4}}}}],
        [LOW, {"stages": {"base": {"data": {"kind": "smaller", "factor": 2}}}}],
        [LOW, {"stages": {"base": "runs/base"}}],
        [],
    ):
        plan = made(*layers)
        assert planned([plan.to_data()]) == plan


@pytest.mark.parametrize("name", library())
def test_every_recipe_of_the_library_is_a_plan_that_can_be_written(name):
    plan, _ = planned_by([name, "digits"])
    assert planned([plan.to_data()]) == plan
    assert all(from_data(Recipe, to_data(recipe), "") == recipe for recipe in plan.recipes())


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ([{"stages": {"base": {}}}], r"stages\.base is of no use to this recipe; stages that it has use for: none"),
        ([LATENT, {"stages": {"other": {}}}], "there is no stage 'other'; there may be: autoencoder"),
        ([LATENT, {"stages": {"../base": "runs/x"}}], "there is no stage '../base'"),
        ([LATENT], r"needs the stage autoencoder: give space\.autoencoder=RUN, or a table stages\.autoencoder"),
        ([LATENT, {"stages": "autoencoder"}], "stages must be a table of stages"),
        ([LATENT, {"stages": {"autoencoder": 3}}], r"stages\.autoencoder must be a table of settings or the folder"),
        ([LATENT, {"stages": {"autoencoder": {"kind": "pair"}}}], r"stages\.autoencoder is a run of kind=autoencoder"),
        ([LOW, {"stages": {"base": {"data": {"kind": "smaller", "factor": 4}}}}], r"give stages\.base\.data\.factor=2"),
        ([LATENT, {"stages": {"autoencoder": {"width": 3}}}], r"stages\.autoencoder: .*width"),
        ([LATENT, {"stages": {"autoencoder": {"train": {"steps": -1}}}}], r"stages\.autoencoder: .*steps"),
        ([{**LATENT, **LOW}, {"stages": {"autoencoder": "runs/x", "base": "runs/y"}}], r"stages\.base is of no use"),
    ],
)  # fmt: skip
def test_what_is_no_plan_is_refused_with_a_sentence(layers, sentence):
    with pytest.raises(ValueError, match=sentence):
        made(*layers)


def test_config_prints_the_plan_that_train_would_follow():
    words = ("latent_diffusion", "digits", "stages.autoencoder.train.steps=17")
    printed = cli("config", *words).out
    import tomllib

    assert planned([tomllib.loads(printed)]) == planned_by(words)[0]
    assert tomllib.loads(printed)["stages"]["autoencoder"]["train"]["steps"] == 17


def test_strict_is_for_data_that_are_made_of_others_too():
    layer = {"data": {"kind": "folder", "path": "somewhere"}, "attributes": []}
    prior = {"data": {"kind": "embeddings", "pair": "../pair"}, "embedding": "text", "stages": {"pair": "../pair"}}
    base = {"embedding": "image", "stages": {"pair": {}, "prior": prior}}
    plan = strictly(planned([layer, LOW, {"stages": {"base": base}}]))
    large, small = Folder("somewhere", strict=True), Smaller(Folder("somewhere", strict=True), 2)
    assert [r.data for r in plan.recipes()] == [small, Embeddings(small, "../pair"), small, large]


def test_strict_is_for_the_stages_too():
    layer = {"data": {"kind": "folder", "path": "somewhere"}}
    plan = planned([layer, LATENT, {"stages": {"autoencoder": {}}}])
    assert all(recipe.data.strict for recipe in strictly(plan).recipes())
    assert not any(recipe.data.strict for recipe in plan.recipes())
