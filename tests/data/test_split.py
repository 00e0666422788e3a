import numpy as np
import pytest

from reverie.data import Examples, groups, split
from reverie.data.base import one_of_each


def examples(rows, labels=None, **more):
    labels = None if labels is None else np.asarray(labels, np.int64)
    classes = () if labels is None else tuple(map(str, range(labels.max() + 1)))
    return Examples(np.asarray(rows, np.float32), labels, classes, **more)


def distinct(count, labels=None, **more):
    return examples(np.arange(2 * count).reshape(count, 2), labels, **more)


@pytest.mark.parametrize("validation", [0.01, 0.1, 0.37, 0.9])
@pytest.mark.parametrize("count", [2, 3, 50, 997])
def test_sides_are_disjoint_and_cover_everything_in_the_share_asked(count, validation):
    found = split(distinct(count), validation, seed=3)
    assert sorted([*found.train, *found.validation]) == list(range(count))
    assert abs(len(found.validation) - np.clip(round(validation * count), 1, count - 1)) == 0


def test_same_seed_same_split_other_seed_other_split():
    data = distinct(400)
    a, b, c = split(data, 0.2, 0), split(data, 0.2, 0), split(data, 0.2, 1)
    assert np.array_equal(a.validation, b.validation)
    overlap = len(np.intersect1d(a.validation, c.validation)) / len(a.validation)
    assert overlap < 0.4  # chance: 0.2


def test_split_does_not_depend_on_labels_being_fitted_or_on_the_global_generator():
    data = distinct(100)
    np.random.seed(0)  # noqa: NPY002
    a = split(data, 0.2, 5)
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(a.validation, split(data, 0.2, 5).validation)


def test_each_class_gives_its_share_and_small_classes_are_on_both_sides():
    labels = np.repeat([0, 1, 2, 3], [1000, 500, 2, 1])
    found = split(distinct(len(labels), labels), 0.1, seed=0)
    assert np.bincount(labels[found.validation], minlength=4).tolist() == [100, 50, 1, 0]
    assert (np.bincount(labels[found.train], minlength=4) > 0).all()


def test_identical_examples_stay_on_one_side():
    random = np.random.default_rng(0)
    rows = random.integers(0, 60, (500, 1))  # about eight copies of each
    found = split(examples(rows, random.integers(0, 3, 500)), 0.2, seed=0)
    assert not set(rows[found.train, 0]) & set(rows[found.validation, 0])
    assert 70 <= len(found.validation) <= 110


def test_groups_compare_bytes_not_rounded_values():
    items = np.array([[1.0], [np.nextafter(1.0, 2)], [1.0]])
    assert groups(items).tolist() == [0, 1, 0]


def test_no_validation_keeps_everything_for_training():
    found = split(distinct(7), 0, 0)
    assert found.train.tolist() == list(range(7))
    assert found.validation.size == 0


@pytest.mark.parametrize("validation", [0, 0.3])
def test_official_test_set_is_the_validation_set_and_its_copies_are_not_trained_on(validation):
    rows = [[0], [1], [2], [3], [1], [9]]
    found = split(examples(rows, held_out=np.array([4, 5])), validation, 0)
    assert found.validation.tolist() == [4, 5]
    assert found.train.tolist() == [0, 2, 3]  # row 1 equals the held-out row 4


@pytest.mark.parametrize("validation", [-0.1, 1, 1.5, float("nan")])
def test_share_out_of_range_is_refused(validation):
    with pytest.raises(ValueError, match="at least 0 and below 1; given"):
        split(distinct(10), validation, 0)


@pytest.mark.parametrize("rows", [[[1]], [[1], [1], [1]]])
def test_too_few_distinct_examples_are_refused(rows):
    with pytest.raises(ValueError, match="two distinct examples"):
        split(examples(rows), 0.5, 0)


def test_one_of_each_takes_no_two_that_show_the_same_and_each_by_chance():
    items = np.arange(9, dtype=np.float32)[:, None].copy()
    items[7] = items[6]  # the same bytes
    examples = Examples(items, related=np.array([4, 4, 4, 0, 0, 1, 2, 3, 5]))
    rows, kinds = np.array([0, 1, 2, 4, 5, 6, 7, 8]), [{0, 1, 2}, {4}, {5}, {6, 7}, {8}]
    found = [one_of_each(examples, rows, seed) for seed in range(40)]
    for each in found:
        assert sorted(sum(bool({row} & kind) for row in each.tolist()) for kind in kinds) == [1] * 5
    assert {row for each in found for row in each.tolist()} == set(rows.tolist())
    assert len({each[0] for each in found}) > 5  # in no order of theirs
    assert np.array_equal(one_of_each(examples, rows, 3), found[3])
