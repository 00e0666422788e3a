"""Embeddings as data: what the pair makes of the images, held out where the images are."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from embedded import SMALL, captioned, pair_of, stirred
from staged import own_cache  # noqa: F401  # a fixture
from toys import MLP

from reverie.config import from_data, to_data
from reverie.data import Arrays, Data, Digits, Examples, Smaller
from reverie.data.embeddings import Embeddings
from reverie.data.smaller import smaller


@dataclass(frozen=True)
class Held(Data):
    """Examples that are at hand."""

    examples: Examples

    def load(self) -> Examples:
        return self.examples


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return pair_of(tmp_path_factory.mktemp("embeddings") / "pair")


def sides(split):
    return split.train.tolist(), split.validation.tolist()


def test_they_are_those_of_the_pair_with_all_else_that_the_images_have(pair):
    labelled = smaller(captioned(labels=True), 2)
    made = Embeddings(Held(labelled), str(pair.path)).load()
    assert made.items.dtype == np.float32
    assert np.array_equal(made.items, pair.joint.images(labelled.items).numpy())
    assert np.allclose(np.linalg.norm(made.items, axis=1), made.items.shape[1] ** 0.5)
    assert not made.image
    assert (made.texts, made.classes) == (labelled.texts, labelled.classes)
    assert np.array_equal(made.labels, labelled.labels)


def test_images_whose_embeddings_are_the_same_are_held_out_as_the_images_are(pair):
    data = Embeddings(Held(replace(SMALL, related=None)), str(pair.path))
    made = data.load()
    alike = replace(made, items=np.ones_like(made.items))
    assert sides(data.split(alike, 0.3, 0)) == sides(data.split(made, 0.3, 0))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("seed", [0, 3])
def test_they_are_held_out_where_the_images_are(pair, share, seed):
    images = replace(SMALL, related=None)
    data = Embeddings(Held(images), str(pair.path))
    assert sides(data.split(data.load(), share, seed)) == sides(Held(images).split(images, share, seed))


def test_images_that_are_related_stay_on_one_side(pair):
    """By their bytes, or because the source says so, though their embeddings are others."""
    related = np.arange(len(SMALL)) // 4
    images = replace(SMALL, related=related)
    data = Embeddings(Held(images), str(pair.path))
    made = data.load()
    split = data.split(made, 0.3, 0)
    assert sides(split) == sides(Held(images).split(images, 0.3, 0))
    held = np.isin(np.arange(len(SMALL)), split.validation)
    assert 0 < held.sum() < len(SMALL)
    assert (held.reshape(-1, 4).all(1) | ~held.reshape(-1, 4).any(1)).all()
    assert held[0] == held[-1]  # the same picture


def test_embeddings_of_smaller_images_are_held_out_where_the_large_ones_are(pair):
    large = captioned()
    data = Embeddings(Smaller(Held(large)), str(pair.path))
    made = data.load()
    assert np.array_equal(made.items, pair.joint.images(SMALL.items).numpy())
    for seed in range(3):
        assert sides(data.split(made, 0.3, seed)) == sides(Held(large).split(large, 0.3, seed))


def test_an_official_test_set_is_that_of_the_images(pair, tmp_path):
    split = np.where(np.arange(len(SMALL)) % 5 == 0, "test", "train")
    np.savez(tmp_path / "data.npz", x=SMALL.items, text=np.array(SMALL.texts), split=split)
    images = Arrays(str(tmp_path / "data.npz"))
    data = Embeddings(images, str(pair.path))
    held = data.split(data.load(), 0.2, 0).validation
    assert held.tolist() == list(range(0, 40, 5))


def test_images_that_the_pair_does_not_know(pair):
    with pytest.raises(ValueError, match=r"is for images of \(3, 4, 4\); these are of \(3, 8, 8\)"):
        Embeddings(Held(captioned()), str(pair.path)).load()


def test_a_run_that_is_no_pair(tmp_path):
    other = stirred(tmp_path / "run", *MLP)
    with pytest.raises(ValueError, match="is no image-text pair; train one with"):
        Embeddings(Held(SMALL), str(other.path)).load()
    with pytest.raises(ValueError, match="nowhere is not a run folder"):
        Embeddings(Held(SMALL), str(tmp_path / "nowhere")).load()


def test_settings_survive_a_file():
    data = Embeddings(Smaller(Digits(), 4), "runs/pair")
    assert from_data(Data, to_data(data), "data") == data


def test_a_path_of_the_pair_in_a_plan_is_taken_from_the_folder_of_the_stage(tmp_path):
    """`../pair` is the stage beside; any other is as it stands."""
    from reverie.plan import Plan
    from reverie.recipe import Recipe

    for path, expected in (("../pair", tmp_path / "run" / "pair"), ("runs/pair", "runs/pair")):
        prior = Plan(Recipe(data=Embeddings(Digits(), path)), {"pair": path})
        placed = Plan(Recipe(data=Digits()), {"prior": prior}).placed(tmp_path / "run").stages["prior"]
        assert placed.recipe.data == Embeddings(Digits(), str(expected))
        assert str(placed.stages["pair"]) == str(expected)
