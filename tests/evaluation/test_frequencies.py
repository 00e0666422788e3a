"""Samples are of classes as often as real examples are, so that a perfect model reaches the floor."""

import numpy as np
import pytest
from toys import trained

from reverie.evaluation.collection import Collection
from reverie.evaluation.frequencies import counts_in, in_proportion
from reverie.evaluation.subject import Subject
from reverie.runs import load


@pytest.mark.parametrize("counts", [[1, 1], [5, 3, 2], [90, 10], [1, 0, 7], [3, 3, 3, 1]])
def test_every_prefix_is_in_proportion_to_a_whole_sample(counts):
    share = np.array(counts) / sum(counts)
    found = np.array(in_proportion(counts, 200))
    for n in range(1, 201):
        given = np.bincount(found[:n], minlength=len(counts))
        assert (abs(given - n * share) < len(counts)).all()
    assert np.array_equal(
        np.bincount(in_proportion(counts, 10 * sum(counts)), minlength=len(counts)), 10 * np.array(counts)
    )


def test_equal_counts_are_all_classes_in_turn():
    assert in_proportion([7] * 4, 10) == (0, 1, 2, 3, 0, 1, 2, 3, 0, 1)


def test_classes_are_counted_by_name():
    real = Collection(np.zeros((4, 1), np.float32), False, "", {}, np.array([0, 1, 1, 1]), ("b", "a"))
    assert counts_in(real, ("a", "b", "c")) == (3, 1, 0)
    assert counts_in(real, ("a",)) is None


def test_samples_of_a_run_follow_the_reference_unless_classes_are_asked_for():
    run = load(trained())
    real = Collection(np.zeros((4, 1, 8, 8), np.uint8), True, "", {}, np.array([0, 0, 0, 1]), ("3", "5"))
    subject = Subject(run, run.settings(), 8)
    assert subject.classes() == tuple(range(8))
    assert subject.beside(real).classes() == (3, 3, 5, 3, 3, 3, 5, 3)
    assert subject.beside(real).about()["classes"] == "as often as in the reference"
    assert Subject(run, run.settings(), 4, labels=(7,)).beside(real).classes() == (7, 7, 7, 7)
