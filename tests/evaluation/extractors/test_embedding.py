from dataclasses import dataclass

import numpy as np
import pytest
import torch

from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Classifier, EfficientNetLite0, Opened, blocks, embed
from reverie.evaluation.team import Team


class Squares(Opened):
    """Features (x, x^2), and what blocks it was given."""

    block = 8

    def __init__(self):
        super().__init__(2)
        self.given = []

    def both(self, items):
        self.given.append(tuple(items.shape))
        return torch.stack([items[:, 0], items[:, 0] ** 2], 1), torch.nn.functional.one_hot(items[:, 0].long() % 3, 3)


@dataclass(frozen=True)
class Alone(Team):
    """A member of a team that does not wait for the others: the results are its own alone."""

    def _joined(self, results, *_):
        return results


def pictures(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 12, 12), dtype=np.uint8)


@pytest.fixture(scope="module", params=["efficientnet", "classifier"])
def opened(request, tmp_path_factory):
    items = pictures(40)
    real = Collection(items, True, "some", labels=np.arange(40) % 2, classes=("a", "b"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REVERIE_CACHE", str(tmp_path_factory.mktemp("cache")))
        extractor = EfficientNetLite0() if request.param == "efficientnet" else Classifier(seen=128)
        found = extractor.open(real)
    found.block = 4
    return found


@pytest.mark.parametrize("n", [1, 7, 8, 9, 30])
def test_features_stand_in_order(n):
    items = np.arange(n, dtype=np.float32)[:, None]
    squares, told = Squares(), []
    found = embed(squares, items, Team(), done=told.append)
    assert found.values.dtype == found.probabilities.dtype == np.float64
    assert np.array_equal(found.values, np.concatenate([items, items**2], 1))
    assert np.array_equal(found.probabilities.argmax(1), np.arange(n) % 3)
    assert told == list(range(1, blocks(squares, n) + 1))
    assert set(squares.given) == {(8, 1)}, "every block has the same shape"


def test_probabilities_need_not_be():
    class Plain(Squares):
        def both(self, items):
            return super().both(items)[0], None

    assert embed(Plain(), np.zeros((9, 1), np.float32)).probabilities is None


def test_how_many_follow_changes_no_bit(opened):
    items = pictures(14)
    whole, part = embed(opened, items), embed(opened, items[:9])
    assert np.array_equal(whole.values[:9], part.values)
    assert np.array_equal(whole.probabilities[:9], part.probabilities)


def test_threads_change_no_bit(opened):
    items, before, found = pictures(22), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(embed(opened, items))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert np.array_equal(found[0].values, other.values)
        assert np.array_equal(found[0].probabilities, other.probabilities)


def test_processes_change_no_bit(opened):
    items = pictures(22)
    whole = embed(opened, items, Team())
    for index in (0, 1):
        rows = np.concatenate([np.arange(start, min(start + 4, 22)) for start in range(4 * index, 22, 8)])
        part = embed(opened, items, Alone(index, 2))
        assert np.array_equal(whole.values[rows], part.values)
        assert np.array_equal(whole.probabilities[rows], part.probabilities)


def test_a_read_only_map_of_a_file_will_do(tmp_path):
    items = np.arange(20, dtype=np.float32)[:, None]
    np.save(tmp_path / "items.npy", items)
    mapped = np.load(tmp_path / "items.npy", mmap_mode="r")
    assert np.array_equal(embed(Squares(), mapped).values, embed(Squares(), items).values)
