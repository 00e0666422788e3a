import numpy as np
import pytest
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Pixels, Values, embed
from reverie.evaluation.extractors.values import moments


def images(*shape, seed=0):
    return Collection(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), True, "some")


def arrays(items):
    return Collection(np.asarray(items, np.float32), False, "some")


def test_pixels_come_back():
    some = images(300, 3, 9, 7)
    found = embed(Pixels().open(some), some.items)
    assert found.values.shape == (300, 189)
    assert found.probabilities is None
    assert np.array_equal(np.rint(found.values * 255).reshape(some.items.shape), some.items)
    assert found.values.min() >= 0
    assert found.values.max() <= 1


def test_large_pictures_are_shrunk_and_it_is_said():
    some = images(4, 1, 16, 8)
    opened = Pixels(4).open(some)
    means = some.items.reshape(4, 4, 4, 2, 4).mean((2, 4)) / 255
    assert np.allclose(embed(opened, some.items).values, means.reshape(4, -1), atol=1e-6)
    assert opened.width == 8
    assert opened.about["resize"] == "means over areas, to 4x2"
    assert Pixels(16).open(some).about["resize"] == "none"


def test_values_are_standardised():
    random = np.random.default_rng(0)
    some = arrays(random.normal(size=(5000, 2, 3)) * [1e-3, 1, 1e4] + [5, 0, 1e5])
    found = embed(Values().open(some), some.items)
    assert found.values.shape == (5000, 6)
    assert np.abs(found.values.mean(0)).max() < 1e-9
    assert np.abs(found.values.std(0) - 1).max() < 1e-9


def test_constant_columns_are_only_shifted():
    items = np.stack([np.full(50, 0.1), np.arange(50)], 1)
    opened = Values().open(arrays(items))
    assert opened.std[0] == 1
    assert np.array_equal(embed(opened, arrays(items).items).values[:, 0], np.zeros(50))
    moved = arrays(items + np.array([2.0, 0.0])).items
    assert np.allclose(embed(opened, moved).values[:, 0], 2, atol=1e-6)


def test_moments_over_several_blocks(monkeypatch):
    some = arrays(np.random.default_rng(0).normal(size=(100, 4)) + 3)
    whole = moments(some)
    monkeypatch.setattr("reverie.evaluation.extractors.values.ROWS", 7)
    for a, b in zip(moments(some), whole, strict=True):
        assert np.allclose(a, b, rtol=1e-13)
    assert np.allclose(whole, (some.items.mean(0, np.float64), some.items.std(0, np.float64)), rtol=1e-12)


def test_the_scale_is_of_the_reference_and_told():
    some = arrays(np.random.default_rng(0).normal(size=(50, 3)))
    a, b = Values().open(some), Values().open(some.take(slice(40)))
    assert a.digest == Values().open(some).digest != b.digest
    assert "of each number in the reference" in a.about["scale"]


def test_opened_is_a_module():
    some = arrays(np.eye(3))
    opened = Values().open(some)
    assert isinstance(opened, torch.nn.Module)
    assert opened.num_features == opened.width == 3
    assert torch.equal(opened(torch.eye(3)), opened.both(torch.eye(3))[0])


@pytest.mark.parametrize(
    ("extractor", "some", "said"),
    [
        (Pixels(), arrays(np.eye(3)), "pixels takes images, and some holds arrays"),
        (Values(), images(3, 1, 8, 8), "values takes arrays, and some holds images"),
        (Values(), arrays(np.empty((0, 3))), "holds none"),
        (Values(), arrays([[1.0, np.inf]]), "not finite"),
        (Values(), arrays([[1.0, np.nan], [1.0, 2.0]]), "not finite"),
        (Values(), arrays([[np.inf], [-np.inf]]), "not finite"),
    ],
)
def test_bad_input_is_a_sentence(extractor, some, said):
    with pytest.raises(ValueError, match=said):
        extractor.open(some)


def test_a_side_is_at_least_1():
    with pytest.raises(ValueError, match="at least 1; given 0"):
        Pixels(0)
