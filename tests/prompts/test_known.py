"""Values of attributes as numbers, and what a user says as values."""

import numpy as np
import pytest

from reverie.data import Attribute
from reverie.prompts import Known

STYLE = Known("style", ("ink", "oil", "7"))


def test_mean_and_deviation_are_those_of_the_training_split_alone():
    values = np.array([[1.0, 5], [3, np.nan], [np.nan, 9], [1000, -1000]], np.float32)
    known = Known.of(Attribute("place", values), np.array([0, 1, 2]))
    assert known == Known("place", (), (2.0, 7.0), (1.0, 2.0))
    assert known.numbers(values[[0, 1]]).tolist() == [[-1, -1, 1, 1], [1, 0, 1, 0]]
    assert known.unknown.tolist() == [0, 0, 0, 0]
    assert known.known(np.array([[np.nan, 1], [np.nan, np.nan]])).tolist() == [True, False]


@pytest.mark.parametrize("constant", [0.1, 1e-30, 3e7])
def test_numbers_that_are_all_the_same_have_deviation_1(constant):
    """The mean of as many equal numbers is not always the number."""
    values = np.full((7, 1), constant, np.float32)
    known = Known.of(Attribute("age", values), np.arange(7))
    assert known.std == (1.0,)
    assert abs(float(known.numbers(values)[0, 0])) < 1e-6


def test_an_attribute_of_which_the_training_split_knows_nothing():
    known = Known.of(Attribute("age", np.array([[np.nan], [4]], np.float32)), np.array([0]))
    assert (known.mean, known.std) == ((0.0,), (1.0,))


def test_a_class_that_is_not_known_has_a_place_of_its_own():
    assert STYLE.numbers(np.array([0, -1, 2])).tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert STYLE.unknown.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("given", "value"), [("oil", 1), ("7", 2), (2, 2), ("0", 0), (np.int64(1), 1), (True, 1), (None, None)]
)
def test_a_class_by_name_or_by_number(given, value):
    assert STYLE.value(given) == value


@pytest.mark.parametrize("given", ["tempera", 3, -1, "-1", 1.0, ""])
def test_a_class_that_there_is_not(given):
    with pytest.raises(ValueError, match=r"unknown style .*: ink, oil, 7"):
        STYLE.value(given)


@pytest.mark.parametrize("given", ["1,2.5", [1, 2.5], (1, 2.5), np.array([1, 2.5])])
def test_numbers_as_they_are_or_with_commas(given):
    assert Known("place", (), (0.0, 0.0), (1.0, 1.0)).value(given) == (1.0, 2.5)


@pytest.mark.parametrize("given", ["1", "a,b", [1, 2, 3], "nan,1", "inf,1", object()])
def test_what_is_no_such_numbers(given):
    with pytest.raises(ValueError, match="place is 2 finite numbers"):
        Known("place", (), (0.0, 0.0), (1.0, 1.0)).value(given)
