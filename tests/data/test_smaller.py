"""Smaller examples are what a low-resolution condition is made of, and are held out where the larger ones are."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reverie.config import from_data, to_data
from reverie.data import Arrays, Attribute, Data, Digits, Examples, Skipped, Smaller, groups, split
from reverie.data.smaller import BATCH, means
from reverie.image_conditions import LowResolution


@dataclass(frozen=True)
class Held(Data):
    """Examples that are at hand."""

    examples: Examples

    def load(self) -> Examples:
        return self.examples


def images(n=40, c=3, h=4, w=6, **more):
    random = np.random.default_rng(0)
    return Examples(random.integers(0, 256, (n, c, h, w), np.uint8), image=True, **more)


@pytest.mark.parametrize("shape", [(2, 12), (1, 6, 9), (2, 3, 6, 9)], ids=str)
def test_arrays_become_the_means_that_a_network_is_told(shape):
    items = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    made = Smaller(Held(Examples(items)), 3).load()
    assert made.items.dtype == np.float32
    assert np.allclose(made.items, LowResolution(3).small(torch.from_numpy(items)).numpy(), atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_pixels_are_means_rounded_half_to_even(factor):
    """Many batches, of which the last is not full."""
    large = images(2 * BATCH + 3, 1, 4, 8)
    made = Smaller(Held(large), factor).load()
    exact = F.avg_pool2d(torch.from_numpy(large.items).double(), factor)
    assert made.items.dtype == np.uint8
    assert np.array_equal(made.items, exact.round().numpy())  # torch rounds half to even
    assert bool((exact % 1 == 0.5).any())


def test_what_a_gaussian_field_becomes():
    """Of the covariance S, A S A^T with the matrix A of the means."""
    n, side = 20_000, 8
    place = np.arange(side)
    S = np.exp(-np.abs(place[:, None] - place) / 3)
    items = np.random.default_rng(0).standard_normal((n, side)) @ np.linalg.cholesky(S).T
    A = np.kron(np.eye(4), np.full((1, 2), 0.5))
    small = Smaller(Held(Examples(items.astype(np.float32)[:, None]))).load().items[:, 0].astype(np.float64)
    wanted = A @ S @ A.T
    error = np.sqrt((np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2) / n)  # of a sample covariance
    assert (np.abs(small.T @ small / n - wanted) < 5 * error).all()


def test_all_else_is_as_in_the_larger_data():
    labels = np.arange(40) % 4
    large = images(
        labels=labels, classes=tuple("abcd"), skipped=(Skipped("x.png", "cut short"),),
        sources=tuple(map(str, range(40))), held_out=np.array([3, 9]), texts=tuple(f"tile {i}" for i in range(40)),
        attributes=(Attribute("kind", labels, tuple("wxyz")),), troubles=(Skipped("y", "odd"),), balanced=labels // 2,
    )  # fmt: skip
    made = Smaller(Held(large)).load()
    for name in ("labels", "held_out", "balanced"):
        assert np.array_equal(getattr(made, name), getattr(large, name))
    for name in ("classes", "image", "skipped", "sources", "texts", "attributes", "troubles"):
        assert getattr(made, name) == getattr(large, name)


def colliding(**more):
    """Examples with copies, of which some that differ have the same means."""
    large = images(400, 1, 2, 4).items
    large[200:300] = large[:100]
    large[300:] = large[100:200, :, ::-1]
    return Examples(large, image=True, **more)


KINDS = {
    "plain": {},
    "labels": {"labels": np.arange(400) % 7, "classes": tuple("abcdefg")},
    "related": {"related": np.arange(400) // 5},
    "held_out": {"held_out": np.arange(150, 210)},
    "related_held_out": {"related": np.arange(400) // 5, "held_out": np.arange(150, 210)},
}


@pytest.mark.parametrize("more", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_splits_are_those_of_the_larger_data(more, validation):
    """Those of two steps too; and not what a split of the smaller examples for themselves would be."""
    large = colliding(**more)
    once = Smaller(Held(large))
    twice = Smaller(Held(Examples(np.repeat(np.repeat(large.items, 2, 2), 2, 3), image=True, **more)))
    wanted = split(large, validation, 3)
    for source in (once, Smaller(twice)):
        found = source.split(source.load(), validation, 3)
        assert np.array_equal(found.train, wanted.train)
        assert np.array_equal(found.validation, wanted.validation)
    small = once.load().items
    assert len(np.unique(groups(small))) < len(np.unique(groups(large.items)))
    if validation or "held_out" in more:
        alone = split(Examples(small, image=True, **more), validation, 3)
        assert not (np.array_equal(alone.train, wanted.train) and np.array_equal(alone.validation, wanted.validation))


def test_a_source_with_a_split_of_its_own_is_asked():
    @dataclass(frozen=True)
    class Odd(Held):
        def split(self, examples, validation, seed):
            return split(examples, validation, seed + 1)

    large = images()
    source = Smaller(Odd(large))
    found = source.split(source.load(), 0.3, 0)
    assert np.array_equal(found.validation, split(large, 0.3, 1).validation)
    assert not np.array_equal(found.validation, split(large, 0.3, 0).validation)


def test_settings_are_read_and_written_in_one_another():
    data = {"kind": "smaller", "data": {"kind": "digits"}, "factor": 4}
    assert from_data(Data, data, "data") == Smaller(Digits(), 4)
    assert json.loads(json.dumps(to_data(Smaller(Smaller(Digits()), 4)))) == {**data, "data": {**data, "factor": 2}}
    assert from_data(Data, to_data(Smaller(Smaller(Digits()), 4)), "data") == Smaller(Smaller(Digits()), 4)
    made = Smaller(Digits(), 4).load()
    assert made.shape == (1, 2, 2)
    assert np.array_equal(made.items, means(means(Digits().load().items.astype(float), 2), 2).round())


@dataclass(frozen=True)
class Sized(Held):
    size: int = 7


@pytest.mark.parametrize(
    ("data", "factor", "message"),
    [
        (Digits(), 1, "factor of at least 2; given 1"),
        (Digits(), 3, "divides, such as 9x9; given 8x8$"),
        (Sized(images(2, 3, 7, 7)), 2, "such as 8x8; given 7x7; of the larger ones set data.size=8, or"),
        (Sized(images(2, 3, 8, 13)), 4, r"such as 8x16; given 8x13; of the larger ones set data.size=\[8, 16\], or"),
        (Held(Examples(np.zeros((4, 2), np.float32))), 2, r"with a channel and sides.*given \(2,\)"),
    ],
)
def test_what_cannot_be_made_smaller_is_refused(data, factor, message):
    with pytest.raises(ValueError, match=message):
        Smaller(data, factor).load()


def test_an_array_on_disk(tmp_path):
    np.save(tmp_path / "a.npy", images(6, 3, 4, 4).items)
    source = Smaller(Arrays(str(tmp_path / "a.npy")))
    assert source.load().shape == (3, 2, 2)
    assert source.features(source.load().items) is None
