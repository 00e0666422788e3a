import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluation import degraded, orderings
from benchmarks.evaluation.degraded import LADDERS, REAL, blurred, noisy, rows, shifted
from benchmarks.evaluation.orderings import BLIND, FOOLED, PAGE, RESULTS, SEES, faults, measured, tables, worse_by
from benchmarks.publishing import filled
from reverie.data.digits import Digits
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Pixels
from reverie.evaluation.metrics import from_names
from reverie.evaluation.metrics.modes import Modes

N = 130


@pytest.fixture(scope="module")
def digits():
    """A reference, and others: 400 and 1,397 images of 8x8."""
    examples = Digits().load()
    every = Collection(examples.items, True, "digits", {}, examples.labels, examples.classes)
    order = np.random.Generator(np.random.Philox(1)).permutation(len(every))
    return every.take(order[:400]), every.take(order[400:])


DISTANCES = {
    "sliced_wasserstein": tuple(LADDERS),
    "mmd": tuple(LADDERS),
    "kid": ("noise", "shift", "mirror", "classes"),
}
SHARES = {
    "recall": ("shift", "mirror", "classes", "copies"),
    "precision": ("noise", "shift", "mirror"),
    "coverage": ("noise", "shift", "mirror", "classes", "copies"),
}


def test_orderings_hold_in_the_pixels_of_digits(digits, monkeypatch):
    """A small version of the benchmark: the same rows, 10 copied in place of 50, and 3 errors in place of 5."""
    monkeypatch.setattr(orderings, "CLEAR", 3.0)
    monkeypatch.setattr(degraded, "KEPT", 10)
    reference, others = digits
    metrics = (*from_names(",".join([*DISTANCES, *SHARES])), Modes(clusters=8))
    table = measured(Pixels().open(reference), reference, others, N, metrics)
    monkeypatch.setitem(SEES, "pixels", {**DISTANCES, **SHARES, "modes": ("classes",)})
    monkeypatch.setitem(BLIND, "pixels", {"precision": ("half the classes",)})
    monkeypatch.setitem(FOOLED, "pixels", {})
    assert faults("pixels", table) == []


def test_an_ordering_that_fails_is_seen(digits, monkeypatch):
    reference, others = digits
    table = measured(Pixels().open(reference), reference, others, N, from_names("sliced_wasserstein"))
    monkeypatch.setitem(SEES, "pixels", {"sliced_wasserstein": ("noise",)})
    monkeypatch.setitem(BLIND, "pixels", {"sliced_wasserstein": ("one class",)})
    monkeypatch.setitem(FOOLED, "pixels", {})
    assert faults("pixels", table) == ["pixels: sliced_wasserstein is not blind to one class"]
    steps = LADDERS["noise"]
    table[steps[-1]], table[REAL] = table[REAL], table[steps[-1]]
    assert any("sliced_wasserstein does not see noise" in fault for fault in faults("pixels", table))


def test_worse_is_so_in_the_direction_of_the_metric():
    assert worse_by("kid", (3.0, 0.3), (1.0, 0.4)) == pytest.approx(4)
    assert worse_by("recall", (3.0, 0.3), (1.0, 0.4)) == pytest.approx(-4)
    assert worse_by("recall", (0.0, 0.0), (0.0, 0.0)) == 0


def test_rows_are_as_many_and_as_named(digits):
    reference, others = digits
    made = {name: make() for name, make in rows(reference, others, N).items()}
    assert list(made) == [REAL, *(row for ladder in LADDERS.values() for row in ladder)]
    assert {len(images) for images in made.values()} == {N}
    assert set(made["one class"].labels) == {0}
    assert set(made["half the classes"].labels) == {0, 1, 2, 3, 4}
    assert len({item.tobytes() for item in made["50 copied"].items}) == 50
    np.testing.assert_array_equal(made["mirrored"].items[..., ::-1], made[REAL].items)


def test_images_are_made_worse_as_said():
    grey = np.full((50, 1, 28, 28), 128, np.uint8)
    assert np.std(noisy(grey, 10) / 255.0) == pytest.approx(0.1, rel=0.02)
    spot = np.zeros((1, 1, 41, 41), np.uint8)
    spot[..., 20, 20] = 255
    np.testing.assert_array_equal(np.argwhere(shifted(spot, 3)[0, 0]), [[23, 23]])
    wide = np.zeros((1, 1, 41, 41), np.uint8)
    wide[..., 20:] = 200
    soft = blurred(wide, 2.0)[0, 0, 20].astype(float)  # the edge becomes the integral of the bell
    slope = np.diff(soft) / 200
    at = np.arange(40) - 19
    assert (slope * at**2).sum() - (slope * at).sum() ** 2 == pytest.approx(4, rel=0.05)


@pytest.mark.skipif(not Path(RESULTS).exists(), reason="the benchmark has not been run")
def test_the_page_says_what_was_measured():
    found = json.loads(RESULTS.read_text())
    assert filled(PAGE.read_text(), tables(found)) == PAGE.read_text()
    assert [fault for name, part in found.items() for fault in faults(name, part["table"])] == []
