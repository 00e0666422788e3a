"""Nearest neighbours against all pairs."""

from dataclasses import replace

import numpy as np
import pytest
from audited import arrays, images, law, pictures

from reverie.audit import space as spaces
from reverie.audit.neighbours import ratios
from reverie.audit.space import Near, Space
from reverie.evaluation.extractors import Pixels, Values
from reverie.evaluation.team import Team


def of(examples, mirrored=False):
    extractor = Pixels() if examples.image else Values()
    return Space(extractor.kind, extractor.open(examples), "", mirrored)


def by_pairs(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).mean(2))


@pytest.mark.parametrize("rows", [2**23, 300])
def test_neighbours_are_those_of_all_pairs_in_blocks_too(rows, monkeypatch):
    monkeypatch.setattr(spaces, "ROWS", rows)
    monkeypatch.setattr(spaces, "CHUNK", 37)
    training, made = arrays(law(500, 0)), arrays(law(90, 1))
    here = of(training)
    pairs = by_pairs(here.points(made), here.points(training))
    found = here.near(here.points(made), training, 6)
    order = np.argsort(pairs, axis=1)[:, :6]
    assert (found.index == order).all()
    assert np.allclose(found.distance, np.take_along_axis(pairs, order, 1), rtol=1e-9)


def test_an_example_is_no_neighbour_of_itself_and_copies_are_at_0():
    training = arrays(np.concatenate([law(100, 0), law(3, 5), law(3, 5)]) * 1e3)
    here, rows = of(training), np.arange(106)
    found = here.near(here.points(training), training, 3, rows)
    assert (found.index != rows[:, None]).all()
    assert (found.distance[100:, 0] == 0).all()
    assert found.index[100:, 0].tolist() == [103, 104, 105, 100, 101, 102]
    assert (found.distance[:100, 0] > 0).all()
    assert here.near(here.points(training), training, 200, rows).index.shape == (106, 105)


def test_mirrored_images_count_where_they_should():
    training = images(pictures(60, 0))
    mirror = replace(training, items=np.ascontiguousarray(training.items[..., ::-1]))
    here = of(training)
    both = replace(here, mirrored=True)
    assert (both.near(both.points(mirror), training, 1).distance == 0).all()
    assert (here.near(here.points(mirror), training, 1).distance > 0.01).all()
    pairs = np.minimum(by_pairs(here.points(mirror), here.points(training)),
                       by_pairs(here.points(training), here.points(training)))  # fmt: skip
    found = both.near(both.points(mirror), training, 4)
    assert np.allclose(found.distance, np.sort(pairs, axis=1)[:, :4], atol=1e-9)


def test_processes_and_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(spaces, "CHUNK", 16)
    training, made = arrays(law(400, 0)), arrays(law(90, 1))
    here = of(training)
    one = here.near(here.points(made), training, 5)

    class Threads(Team):
        def _each(self, work, own, threads):
            return super()._each(work, own, 4)

    many = replace(here, team=Threads()).near(here.points(made), training, 5)
    assert (one.distance == many.distance).all()
    assert (one.index == many.index).all()


def test_ratios():
    near = Near(np.array([[1.0, 2.0, 4.0, 6.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]), np.zeros((3, 4), int))
    assert ratios(near).tolist() == [0.25, 0.0, 1.0]
