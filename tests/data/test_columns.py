import math

import numpy as np
import pytest

from reverie.data.columns import MOST, Cell, attributes, of_array


def made(*values, name="x"):
    return attributes({name: [Cell(value, f"line {i}") for i, value in enumerate(values, 1)]})


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        (("oil", " ink ", None, "oil", ""), ("ink", "oil"), [1, 0, -1, 1, -1]),
        ((True, None, False), ("false", "true"), [1, -1, 0]),
        ((3, None, 4.5, math.nan), (), [[3], [math.nan], [4.5], [math.nan]]),
        (([1, 2.5], None, [3, None]), (), [[1, 2.5], [math.nan] * 2, [3, math.nan]]),
        ((2**70, 0), (), [[2.0**70], [0]]),
    ],
)
def test_what_a_column_is(values, classes, expected):
    (attribute,) = made(*values).attributes
    assert attribute.classes == classes
    np.testing.assert_array_equal(attribute.values, expected)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("a", "b", "c"), "free text, 3 different ones in 3 values"),
        ([f"{i % (MOST + 1)}" for i in range(10 * MOST)], "free text, 65 different ones in 640 values"),
        (("a", "a", None), "every value is 'a'"),
        ((True, True), "every value is 'true'"),
        ((3, 3, None), "every value is the same"),
        (([1, 2], [1, 2]), "every value is the same"),
        ((None, "", math.nan), "no value is known"),
        (("a", "a", 3, 3), "its values are of several sorts, numbers, texts"),
        (([1, 2], [1, 2, 3]), "its values are of several sorts, lists of 2 numbers, lists of 3 numbers"),
        ((["a"], ["b"], {"c": 1}), "its values are lists of other things, or objects"),
    ],
)
def test_columns_that_are_no_attributes_are_left_out_and_nothing_is_wrong(values, said):
    found = made(*values)
    assert (found.attributes, found.troubles) == ((), ())
    assert [(s.path, s.reason) for s in found.left_out] == [("column 'x'", said)]


def test_many_classes_are_a_kind_where_each_has_examples_enough():
    (attribute,) = made(*(f"{i % 65:02}" for i in range(650))).attributes
    assert len(attribute.classes) == 65
    assert (attribute.values == np.arange(650) % 65).all()


@pytest.mark.parametrize("odd", ["n/a", math.inf, 10**400, True, [1], [math.inf], {}])
def test_a_value_of_another_sort_is_named_and_unknown(odd):
    found = made(3, odd, 5, 6)
    np.testing.assert_array_equal(found.attributes[0].values, [[3], [math.nan], [5], [6]])
    (trouble,) = found.troubles
    assert trouble.path == "line 2"
    assert trouble.reason.startswith("'x' is ")
    assert trouble.reason.endswith(" where most are numbers; it counts as unknown")


def test_half_a_character_of_utf16_is_no_text_and_no_name():
    found = made("a", "\ud83d", "b", "a", "b")
    assert found.attributes[0].values.tolist() == [0, -1, 1, 0, 1]
    assert len(found.troubles) == 1
    assert [s.reason for s in made(1, 2, name="\ud83d").left_out] == ["it has no name"]


def test_arrays_become_attributes():
    np.testing.assert_array_equal(of_array("x", np.array([1, 2], np.int8), 2).values, [[1], [2]])
    vectors = np.arange(6.0).reshape(3, 2)
    vectors[1, 1] = np.nan
    np.testing.assert_array_equal(of_array("x", vectors, 3).values, vectors)
    for texts in (np.array(["é", "", "b"]), np.array(["é".encode(), b"", b"b"])):
        attribute = of_array("x", texts, 3)
        assert (attribute.classes, attribute.values.tolist()) == (("b", "é"), [1, -1, 0])
    assert of_array("x", np.array([True, False]), 2).classes == ("false", "true")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros(3), r"'x' is float64 \(3,\); expected \(2,\) texts or truths, or \(2,\) or \(2, D\) numbers"),
        (np.zeros((2, 0)), r"\(2, 0\)"),
        (np.zeros((2, 1, 1)), r"\(2, 1, 1\)"),
        (np.array([["a"], ["b"]]), r"<U1 \(2, 1\)"),
        (np.zeros(2, complex), "complex128"),
        (np.array([0, 1e39]), "infinite in float32, the first in row 1"),
        (np.full(2, np.nan), "nothing but NaN"),
        (np.array(["", " "]), "nothing but blank texts"),
    ],
)
def test_arrays_that_cannot_be_attributes_are_refused(values, said):
    with pytest.raises(ValueError, match=said):
        of_array("x", values, 2)
