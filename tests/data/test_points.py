"""Points in the plane: their laws, their seeds, and that they are found by name."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import threshold

from reverie.cli.compose import composed
from reverie.config import from_data, to_data
from reverie.data import Data, built_in, look, resolve
from reverie.data.points import Checkerboard, SwissRoll, TwoMoons
from reverie.grids import Knots
from reverie.tensors import host

KINDS = {"swissroll": SwissRoll, "two_moons": TwoMoons, "checkerboard": Checkerboard}
N = 20_000


def uniform(values, low, high):
    """Whether values are uniform in [low, high], wrongly refused once in 100,000 times (Massart, 1990)."""
    u = np.sort((np.asarray(values, np.float64) - low) / (high - low))
    rank = np.arange(len(u))
    off = max(np.abs(u - rank / len(u)).max(), np.abs(u - (rank + 1) / len(u)).max())
    return u[0] >= -1e-6 and u[-1] <= 1 + 1e-6 and off < threshold(len(u), directions=1)


def chance(hits, n, p):
    """Whether `hits` of n may be of probability p, wrongly refused once in 100,000 times (Hoeffding, 1963)."""
    return abs(hits - n * p) < math.sqrt(n * math.log(2e5) / 2)


@pytest.mark.parametrize("name", KINDS)
def test_a_name_stands_for_so_many_points_of_a_seed(name):
    assert name in built_in()
    assert resolve(name) == KINDS[name]()
    found = resolve(name).load()
    assert found.items.shape == (10_000, 2)
    assert found.items.dtype == np.float32
    assert not found.image
    assert np.array_equal(KINDS[name](500, seed=3).load().items, KINDS[name](500, seed=3).load().items)
    assert not np.isin(KINDS[name](500, seed=4).load().items, found.items).any(1).all()
    assert len(np.unique(found.items, axis=0)) == len(found)
    data = KINDS[name](7, seed=2)
    assert from_data(Data, json.loads(json.dumps(to_data(data))), "data") == data


def test_the_roll_is_an_angle_times_its_direction():
    x = SwissRoll(N, noise=0.0).load().items.astype(np.float64)
    angle = np.hypot(*x.T)
    np.testing.assert_allclose(x, angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-4)
    assert uniform(angle, 1.5 * math.pi, 4.5 * math.pi)


def test_the_roll_is_that_of_scikit_learn():
    from sklearn.datasets import make_swiss_roll

    theirs, angle = make_swiss_roll(1000, random_state=0)
    np.testing.assert_allclose(theirs[:, [0, 2]], angle[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))
    assert uniform(angle, 1.5 * math.pi, 4.5 * math.pi)


def test_moons_are_two_half_circles_of_equal_chance():
    found = TwoMoons(N, noise=0.0).load()
    assert found.classes == ("upper", "lower")
    assert chance(int(found.labels.sum()), N, 0.5)
    x = found.items.astype(np.float64)
    x[found.labels == 1] = [1.0, 0.5] - x[found.labels == 1]
    np.testing.assert_allclose(np.hypot(*x.T), 1, atol=1e-6)
    for label in (0, 1):
        assert uniform(np.arctan2(x[found.labels == label, 1], x[found.labels == label, 0]), 0, math.pi)


@pytest.mark.parametrize(("kind", "noise"), [(SwissRoll, 0.5), (TwoMoons, 0.1)])
def test_noise_is_normal_on_both_axes_and_of_the_size_asked_for(kind, noise):
    assert kind().noise == noise
    z = (kind(N).load().items.astype(np.float64) - kind(N, noise=0.0).load().items) / noise
    for v in (z[:, 0], z[:, 1], z.sum(1) / math.sqrt(2), (z[:, 0] - z[:, 1]) / math.sqrt(2)):
        assert uniform(torch.special.ndtr(torch.from_numpy(v)).numpy(), 0, 1)


def test_the_board_is_uniform_on_its_dark_squares():
    x = Checkerboard(N).load().items.astype(np.float64)
    square = np.floor(x).astype(int) + 2
    assert ((square >= 0) & (square < 4)).all()
    assert (square.sum(1) % 2 == 0).all()
    counts = np.bincount(square[:, 0] * 4 + square[:, 1], minlength=16)
    assert [bool(c) for c in counts] == [(i + j) % 2 == 0 for i in range(4) for j in range(4)]
    assert all(chance(c, N, 1 / 8) for c in counts if c)
    for place in (x - np.floor(x)).T:
        assert uniform(place, 0, 1)


def test_both_sides_of_the_split_have_both_moons():
    data = TwoMoons(1000)
    found = data.load()
    sides = data.split(found, 0.1, 0)
    assert sorted([*sides.train, *sides.validation]) == list(range(1000))
    assert len(sides.validation) == 100
    assert all(
        abs(np.mean(found.labels[side]) - found.labels.mean()) < 0.01 for side in (sides.train, sides.validation)
    )
    assert look(data, examples=found).lines()[0] == "data        two_moons: 1,000 examples of shape 2, float32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SwissRoll(0), r"swissroll needs count of at least 1.*given count=0"),
        (lambda: Checkerboard(seed=-1), r"checkerboard needs .* seed=-1"),
        (lambda: TwoMoons(noise=-0.1), r"two_moons needs a noise of at least 0; given -0.1"),
        (lambda: SwissRoll(noise=math.nan), r"noise of at least 0; given nan"),
        (lambda: from_data(Data, {"kind": "swissroll", "nois": 1.0}, "data"), r"unknown setting data.nois"),
    ],
)
def test_what_is_no_set_of_points_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_recipe_and_the_data_of_one_name():
    recipe, name = composed(["swissroll", "data.count=500"])
    assert (recipe.data, name) == (SwissRoll(500), "swissroll")
    assert composed(["v_prediction", "swissroll"])[0].data == SwissRoll()
    assert composed(["v_prediction", "swissroll"])[0].schedule.kind == "cosine"
    assert composed(["two_moons"])[0].data == TwoMoons()


def test_the_recipe_walks_its_chain_of_forty_steps_into_noise():
    recipe = composed(["swissroll"])[0]
    times = recipe.sample.grid(recipe.schedule)
    assert len(recipe.schedule.betas.values()) == 40
    assert torch.allclose(times, Knots(40)(recipe.schedule), rtol=0, atol=1e-15)
    assert float(recipe.schedule.alpha(host(1.0))) < 0.01
