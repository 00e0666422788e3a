"""Recipes: layers on defaults, the library, and what is refused."""

import math
import tomllib

import numpy as np
import pytest
import tomli_w
from small_sets import NOTO, draw_emoji, write_set
from toys import MLP, SHORT, cli, toy

from reverie import config
from reverie.cli.config import _without_none
from reverie.data import Digits
from reverie.guidance import AutoGuide
from reverie.parameterizations import Eps
from reverie.plan import planned
from reverie.recipe import LIBRARY, Recipe, Sampling, Train, check_finite, compose, library
from reverie.runs import load
from reverie.samplers import Adams
from reverie.schedules import VE, Cosine, Flow, Table
from reverie.spaces import Pixels, Standardized

TOY_SAMPLER = ("sample.sampler.kind=ddim", "sample.clip=false")


def test_the_library_is_the_folder():
    assert {"ddpm", "digits", "edm", "fashion", "flow_matching", "v_prediction"} <= library().keys()
    assert all(path.parent == LIBRARY for path in library().values())


@pytest.mark.parametrize("name", library())
def test_every_recipe_of_the_library_is_one_and_only_overrides(name):
    layer = config.read_file(library()[name])
    plan = planned([{"data": "digits"}, layer])
    made = plan.to_data()
    assert list(config.differences(config.merged(made, _filled(layer, made)), made)) == []
    text = tomli_w.dumps(_without_none(made))
    assert planned([tomllib.loads(text)]) == plan


def _filled(layer, made):
    """The layer with the data of a stage that is made of the run's, which are filled in."""
    if not isinstance(layer, dict) or not isinstance(made, dict):
        return layer
    filled = {key: _filled(value, made.get(key)) for key, value in layer.items()}
    return {**filled, "data": made["data"]} if "data" in layer else filled


FEWER = {
    "ddpm": ["sample.grid.stride=500"],
    "improved_ddpm": ["sample.grid.stride=2000"],
    "ncsn": ["sample.sampler.steps=1"],
    "ncsnv2": ["sample.sampler.steps=1"],
}
"""How the recipes that are sampled along a chain are sampled in few steps; the others by `grid.steps`."""


def small(kind, folder):
    """Words for data like those of a recipe, which need neither be installed nor be fetched."""
    if kind == "fashion":
        write_set(folder)
        return [f"data.path={folder}"]
    if kind == "emoji":
        draw_emoji(folder / NOTO, [f"{code:x}" for code in range(0x1F330, 0x1F370)])
        return [f"data.path={folder}", "data.styles=noto"]
    return []


ALONE = [name for name, path in library().items() if "stages" not in config.read_file(path)]
"""Recipes of one run; those of several have tests of their own."""


@pytest.mark.parametrize("name", ALONE)
def test_every_recipe_of_the_library_trains_and_samples(name, tmp_path):
    run = tmp_path / "run"
    words = [w for w in SHORT if not w.startswith("sample.grid")]
    given = config.read_file(library()[name])
    data = small(given["data"]["kind"], tmp_path / "data") if "data" in given else ["digits"]
    few = FEWER.get(name, ["sample.grid.steps=2"])
    own = ["train.steps=2", "train.warmup=0", *few]
    result = cli("train", "--recipe", name, *data, *MLP, *words, *own, "--out", run)
    assert result.code == 0, result
    recipe = load(run).recipe
    for part, usual in (("schedule", "flow"), ("parameterization", "velocity"), ("loss", "denoising")):
        assert getattr(recipe, part).kind == given.get(part, {"kind": usual})["kind"]
    assert cli("sample", run, "-n", 2, "--out", tmp_path / "a.npy").code == 0
    assert np.isfinite(np.load(tmp_path / "a.npy").astype(float)).all()


def test_later_layers_win_and_another_kind_replaces_the_whole_part():
    below = {"data": "digits", "schedule": {"kind": "ve", "high": 50.0}, "train": {"steps": 5, "batch": 3}}
    over = {"schedule": {"low": 0.01}, "train": {"steps": 7}}
    recipe = compose([below, over])
    assert recipe.schedule == VE(low=0.01, high=50.0)
    assert (recipe.train.steps, recipe.train.batch) == (7, 3)
    assert compose([below, over, {"schedule": "cosine"}]).schedule == Cosine()


def test_what_the_data_decide_is_filled_in():
    recipe = compose([{"data": "digits"}])
    assert recipe.space is recipe.net is None
    image, table = recipe.completed((1, 8, 8), True), recipe.completed((5,), False)
    assert image.space == Pixels()
    assert isinstance(table.space, Standardized)
    assert table.net.kind == "mlp"
    assert toy().completed((1, 8, 8), True).net == toy().net
    with pytest.raises(ValueError, match=r"use space\.kind=standardized"):
        compose([{"data": "digits", "space": "pixels"}]).completed((5,), False)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({}, r"no data: name a built-in set such as digits"),
        ({"data": "digit"}, r"unknown data 'digit'.*did you mean 'digits'"),
        ({"data": "digits", "trian": {}}, r"unknown setting trian.*did you mean 'train'"),
        ({"data": "digits", "train": {"step": 3}}, r"unknown setting train\.step.*did you mean 'steps'"),
        ({"data": "digits", "net": "uent"}, r"net\.kind: unknown net 'uent'.*did you mean 'unet'"),
        ({"data": "digits", "train": {"steps": "3"}}, r"train\.steps must be int; given '3'"),
        ({"data": "digits", "schedule": {}}, None),
        ({"data": {"kind": "folder"}}, r"data\.path is missing"),
        ({"data": "digits", "parameterization": "eps", "schedule": "flow"}, r"alpha"),
        ({"data": "digits", "sample": {"guidance": -1.0}}, r"sample: guidance must be at least 0"),
        ({"data": "digits", "sample": {"guidance": math.inf}}, r"guidance must be a finite number; given inf"),
        ({"data": "digits", "schedule": {"kind": "ve", "high": math.inf}}, r"schedule\.high must be a finite number"),
    ],
)
def test_what_is_no_recipe_is_refused_by_its_key(layer, message):
    if message is None:
        assert compose([layer]).schedule == Flow()
        return
    with pytest.raises(ValueError, match=message):
        compose([layer])


@pytest.mark.parametrize(
    "name", ["batch", "accumulate", "log_every", "validate_every", "sample_every", "save_every", "keep"]
)
def test_counts_start_at_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1; given 0"):
        Train(**{name: 0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", -1), ("seed", -1), ("warmup", -1), ("weight_decay", -0.1), ("lr", 0.0), ("lr", math.nan),
        ("clip", 0.0), ("ema", 1.0), ("ema", -0.1), ("ema", math.nan), ("validation", 1.0), ("drop", 1.0),
        ("betas", (0.9, 1.0)),
    ],
)  # fmt: skip
def test_training_out_of_range_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must"):
        Train(**{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["lr", "weight_decay", "clip"])
def test_no_number_is_infinite(field, value):
    with pytest.raises(ValueError, match=rf"{field} must"):
        Recipe(data=Digits(), train=Train(**{field: value}))
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        Sampling(guidance=value)


def test_the_key_of_a_number_deep_inside_is_named():
    with pytest.raises(ValueError, match=r"^a\.b\.c must be a finite number; given nan"):
        check_finite({"x": [1.0, "inf", None, True], "a": {"b": {"c": [0.5, [math.nan]]}}})
    check_finite({"x": [1.0, {"y": -1e308}]})


def test_parts_that_cannot_work_together_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="alpha"):
        Recipe(data=Digits(), schedule=Flow(), parameterization=Eps())


def test_settings_without_a_kind_belong_to_the_part_that_stands_there():
    recipe = compose([{"data": "digits", "schedule": {"kind": "table", "betas": {"steps": 10}}}])
    assert recipe.schedule == Table.linear(10)


def test_a_chain_has_one_number_of_steps():
    chain = {"data": "digits", "schedule": {"kind": "table"}, "parameterization": "v"}
    with pytest.raises(ValueError, match=r"time_label.total is 50, and the chain has 1000 steps"):
        compose([chain, {"time_label": {"kind": "index", "total": 50}}])
    with pytest.raises(ValueError, match=r"loss.times.total is 50, and the chain has 1000 steps"):
        compose([chain, {"loss": {"times": {"kind": "knots", "total": 50}}}])


def test_what_is_for_images_is_refused_or_left_out_elsewhere():
    points = compose([{"data": "digits", "sample": {"clip": True}}])
    assert points.completed((1, 8, 8), image=True).sample.clip
    assert not points.completed((2,), image=False).sample.clip
    with pytest.raises(ValueError, match="these data are not images"):
        compose([{"data": "digits", "train": {"flip": True}}]).completed((2,), image=False)


def test_the_sampler_is_told_of_the_data_what_it_was_not_told():
    def sampling(layer, *data):
        return compose([{"data": "digits"}, layer]).completed(*data).sample

    image, table = sampling({}, (1, 8, 8), True), sampling({}, (5,), False)
    assert (image.sampler, image.grid.std) == (Adams(4, 0.6, density=False), 0.6)
    assert (table.sampler, table.grid.std) == (Adams(4, 1.0, density=True), 1.0)
    assert sampling({}, (3, 32, 32), True).grid.std == pytest.approx(0.6 * 2)  # 16 times the pixels of 8 x 8
    own = {"sample": {"sampler": {"kind": "adams", "std": 0.3, "density": True}}}
    assert sampling(own, (1, 8, 8), True).sampler == Adams(4, 0.3, density=True)


def test_what_holds_pixels_in_their_range_is_not_for_other_data():
    recipe = Recipe(data=Digits(), sample=Sampling(clip=True, threshold=0.995))
    pixels, points = recipe.completed((1, 8, 8), True).sample, recipe.completed((2,), False).sample
    assert (pixels.clip, pixels.threshold) == (True, 0.995)
    assert (points.clip, points.threshold) == (False, 0.0)


def test_a_recipe_names_no_other_run():
    with pytest.raises(ValueError, match="give it when sampling: reverie sample"):
        Recipe(data=Digits(), sample=Sampling(guide=AutoGuide("somewhere")))
