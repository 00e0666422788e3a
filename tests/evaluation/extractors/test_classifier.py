import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from reverie.data import Digits
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Classifier, aligned, embed
from reverie.evaluation.extractors.classifier import folder

QUICK = Classifier(seen=1280)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def digits():
    some = Digits().load()
    rows = np.random.default_rng(0).permutation(len(some))
    whole = Collection(some.items, True, "digits", labels=some.labels, classes=some.classes)
    return whole.take(rows[:1000]), whole.take(rows[1000:])


def weights(opened):
    return {name: value.clone() for name, value in opened.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_recognises_digits_that_it_never_saw(digits):
    real, others = digits
    opened = Classifier(seen=12_800).open(real)
    found = embed(opened, others.items)
    assert found.values.shape == (797, 128)
    assert np.allclose(found.probabilities.sum(1), 1, atol=1e-12)
    assert (found.probabilities.argmax(1) == aligned(opened, others)).mean() > 0.95
    assert opened.about["accuracy"] > 0.95
    assert opened.about["held_back"] + opened.about["learnt_from"] == len(real)


def test_the_accuracy_is_of_examples_held_back(digits):
    """Of labels that nothing tells, an honest share is a tenth; 5.3 standard errors give a false alarm in 10^7."""
    real, _ = digits
    shuffled = replace(real, labels=np.random.default_rng(0).permutation(real.labels))
    about = Classifier(seen=12_800).open(shuffled).about
    assert abs(about["accuracy"] - 0.1) < 5.3 * (0.09 / about["held_back"]) ** 0.5


def test_what_is_kept_is_read_bit_by_bit(digits, monkeypatch):
    real, _ = digits
    first = QUICK.open(real)

    def refuse(*_):
        raise AssertionError("it was trained again")

    monkeypatch.setattr("reverie.evaluation.extractors.classifier.train", refuse)
    second = QUICK.open(real)
    assert same(weights(first), weights(second))
    assert first.digest == second.digest
    assert first.about == second.about
    for other in (replace(QUICK, seed=1), replace(QUICK, seen=2560)):
        with pytest.raises(AssertionError, match="trained again"):
            other.open(real)
    with pytest.raises(AssertionError, match="trained again"):
        QUICK.open(real.take(slice(1, None)))


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:-4] + b"\0\1\2\3", lambda b: b""])
def test_a_damaged_cache_is_made_again(digits, damage, caplog):
    real, _ = digits
    first = QUICK.open(real)
    (path,) = folder().iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, "reverie"):
        second = QUICK.open(real)
    assert "damaged" in caplog.text
    assert same(weights(first), weights(second))


def test_a_disk_that_takes_nothing_is_no_obstacle(digits, tmp_path, monkeypatch, caplog):
    real, _ = digits
    (tmp_path / "file").touch()
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "reverie"):
        opened = QUICK.open(real)
    assert "cannot be kept" in caplog.text
    assert opened.width == 128


def test_threads_and_global_seeds_change_nothing(digits, tmp_path, monkeypatch):
    real, _ = digits
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            monkeypatch.setenv("REVERIE_CACHE", str(tmp_path / str(threads)))
            torch.set_num_threads(threads)
            state = torch.random.get_rng_state()
            found.append(QUICK.open(real).digest)
            assert torch.equal(state, torch.random.get_rng_state())
            torch.rand(1)
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_no_more_than_the_most_are_learnt_from(digits):
    real, _ = digits
    about = replace(QUICK, most=100).open(real).about
    assert about["learnt_from"] <= 100
    assert about["held_back"] < 40


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 70, 40), (4, 33, 33), (1, 8, 300)])
def test_pictures_of_any_size_and_channels(shape):
    items = np.random.default_rng(0).integers(0, 256, (40, *shape), dtype=np.uint8)
    real = Collection(items, True, "some", labels=np.arange(40) % 2, classes=("a", "b"))
    opened = Classifier(seen=128).open(real)
    assert embed(opened, items).values.shape == (40, 128)
    assert (opened.about["resize"] == "none") == (max(shape[1:]) <= 32)


def test_arrays_have_a_network_of_their_own():
    """Three clusters 5 standard deviations apart; a wide second axis of noise hides nothing."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 900)
    points = np.stack([random.normal(size=900) + 10 * labels, 1e4 * random.normal(size=900)], 1).astype(np.float32)
    real = Collection(points, False, "points", labels=labels, classes=("a", "b", "c"))
    opened = Classifier(seen=12_800).open(real.take(slice(600)))
    found = embed(opened, points[600:])
    assert found.values.shape == (300, 128)
    assert (found.probabilities.argmax(1) == labels[600:]).mean() > 0.99


def test_labels_are_numbered_as_it_learnt_them(digits):
    real, others = digits
    opened = QUICK.open(real)
    assert opened.classes == tuple("0123456789")
    turned = replace(others, classes=tuple("9876543210"), labels=9 - others.labels)
    assert np.array_equal(aligned(opened, turned), others.labels)
    assert aligned(opened, replace(others, labels=None, classes=())) is None
    strange = replace(others, classes=(*"012345678", "x"))
    assert aligned(opened, strange) is None
    assert aligned(opened, strange.take(np.flatnonzero(strange.labels < 9))) is not None


def test_torchmetrics_takes_it_for_its_network(digits):
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, others = digits
    opened = QUICK.open(real)
    metric = FrechetInceptionDistance(feature=opened)
    for part, is_real in ((real, True), (others, False)):
        for block in torch.from_numpy(part.items).split(200):
            metric.update(block, real=is_real)
    a, b = (embed(opened, part.items).values for part in (real, others))
    (mean, cov), (mean_b, cov_b) = ((x.mean(0), np.cov(x.T)) for x in (a, b))
    root = np.sqrt(np.linalg.eigvals(cov @ cov_b).astype(complex)).real.sum()
    right = ((mean - mean_b) ** 2).sum() + np.trace(cov) + np.trace(cov_b) - 2 * root
    assert float(metric.compute()) == pytest.approx(right, rel=1e-3)


@pytest.mark.parametrize(
    ("items", "labels", "classes", "said"),
    [
        (np.zeros((4, 1, 8, 8), np.uint8), None, (), "some: they have no labels"),
        (np.zeros((4, 1, 8, 8), np.uint8), [0, 0, 0, 0], ("a", "b"), "all 4 are of one class, and it takes two"),
        (np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 0, 1], ("a", "b"), "its examples are all the same"),
        (np.zeros((4, 1, 9, 7), np.uint8), [0, 1, 0, 1], ("a", "b"), "9x7 pixels are too small; 8x8 would do"),
        (np.array([[0.0], [1], [2], [np.inf]], np.float32), [0, 1, 0, 1], ("a", "b"), "not finite"),
    ],
)
def test_what_cannot_be_learnt_is_a_sentence(items, labels, classes, said):
    labels = None if labels is None else np.array(labels)
    with pytest.raises(ValueError, match=said):
        Classifier(seen=64).open(Collection(items, items.dtype == np.uint8, "some", labels=labels, classes=classes))


def test_two_examples_are_enough():
    items = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8), dtype=np.uint8)
    about = Classifier(seen=64).open(Collection(items, True, "some", labels=np.arange(2), classes=("a", "b"))).about
    assert (about["learnt_from"], about["held_back"]) == (1, 1)


@pytest.mark.parametrize("settings", [{"seed": -1}, {"most": 1}, {"seen": 0}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="of the classifier must be at least"):
        Classifier(**settings)


def test_another_version_of_torch_trains_its_own(digits, monkeypatch):
    real, _ = digits
    QUICK.open(real)
    monkeypatch.setattr(torch, "__version__", "99.0")
    QUICK.open(real)
    assert len(list(folder().iterdir())) == 2
