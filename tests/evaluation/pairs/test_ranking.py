import numpy as np
import pytest
from scipy.stats import binom

from reverie.evaluation.pairs.correlation import correlated
from reverie.evaluation.pairs.ranking import places

FALSE_ALARM = 1e-5


def random(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_places_are_those_of_the_definition():
    """One image at a time, by sorting."""
    images, texts = unit(random(0).normal(size=(50, 4))), unit(random(1).normal(size=(13, 4)))
    own = random(2).integers(0, 13, 50)
    found = places(images, texts, own, 5)
    for i, k in enumerate(own):
        start = k - k % 5
        candidates = [(start + j) % 13 for j in range(5)]
        order = sorted(candidates, key=lambda c, i=i: -images[i] @ texts[c])
        assert found.above[i] == order.index(k)
        for first in range(1, 6):
            assert found.within(first)[i] == (order.index(k) < first)


def test_a_perfect_pair_is_always_right():
    texts = unit(random(3).normal(size=(40, 8)))
    own = random(4).integers(0, 40, 200)
    assert places(texts[own], texts, own, 40).within(1).mean() == 1


@pytest.mark.parametrize("among", [2, 30, 300])
def test_a_pair_that_knows_nothing_is_right_by_chance(among):
    n, texts = 3000, unit(random(5).normal(size=(900, 16)))
    own = np.arange(n) % 900
    found = places(unit(random(6).normal(size=(n, 16))), texts, own, among)
    for k in (1, 5):
        # Images are independent, and so are the three that share a caption; which text is nearest is theirs alone.
        right, p = found.within(k).sum(), min(1, k / among)
        low, high = binom.ppf(FALSE_ALARM / 2, n, p), binom.isf(FALSE_ALARM / 2, n, p)
        assert low <= right <= high


@pytest.mark.parametrize("among", [1, 4, 10])
def test_one_embedding_for_all_is_exactly_a_guess(among):
    same = np.ones((20, 3))
    found = places(same, same[:10], np.arange(20) % 10, among)
    for k in (1, 3):
        np.testing.assert_allclose(found.within(k), min(1, k / among))
    assert found.blind == pytest.approx(1 / among)


def test_the_blind_share_is_the_mean_over_all_ways_of_dealing():
    """Each image with the caption of each image, its own included."""
    images, texts = unit(random(7).normal(size=(30, 3))), unit(random(8).normal(size=(10, 3)))
    own = random(9).choice(10, 30, p=np.r_[0.55, np.full(9, 0.05)])
    hits = [places(images, texts, np.full(30, given), 3).within(1).mean() for given in own]
    assert places(images, texts, own, 3).blind == pytest.approx(np.mean(hits), rel=1e-12)


def test_different_captions_make_the_blind_share_a_guess():
    images, texts = unit(random(10).normal(size=(12, 3))), unit(random(11).normal(size=(12, 3)))
    assert places(images, texts, np.arange(12), 4).blind == pytest.approx(1 / 4)


# ------------------------------------------------------------------------------------ correlation


def test_correlations_without_a_ridge_are_the_canonical_ones():
    """Against their definition: the singular values of Qa' Qb of orthonormal bases (Bjorck and Golub, 1973)."""
    a, b = random(12).normal(size=(60, 5)), random(13).normal(size=(60, 3))
    b[:, 0] += a[:, 1]
    p, q = correlated(a, b, 1e-12)
    x, y = (a - p.mean) @ p.matrix, (b - q.mean) @ q.matrix
    basis_a, basis_b = (np.linalg.qr(each - each.mean(0))[0] for each in (a, b))
    s = np.linalg.svd(basis_a.T @ basis_b, compute_uv=False)
    for left, right, power in ((x, x, 1), (y, y, 1), (x, y, 2)):  # each direction carries s^(1/2)
        np.testing.assert_allclose(left.T @ right / 60, np.diag(s**power), atol=1e-9)


def test_more_features_than_examples_give_the_same_maps():
    """Features that are repeated, less their scale, say nothing new: the long way and the short one agree."""
    a, b = random(14).normal(size=(30, 6)), random(15).normal(size=(30, 4))
    wide = [np.tile(each, 10) / np.sqrt(10) for each in (a, b)]  # as much variance in ten times as many directions
    short, long = correlated(a, b, 0.5), correlated(*wide, 0.5 * 10)  # whose mean eigenvalue is a tenth
    assert wide[0].shape[1] > len(a)
    (x, y), (x_long, y_long) = (
        [(each - p.mean) @ p.matrix for each, p in zip(given, found, strict=True)]
        for given, found in (((a, b), short), (wide, long))
    )
    np.testing.assert_allclose(x @ y.T, x_long @ y_long.T, atol=1e-9)
    np.testing.assert_allclose(x @ x.T, x_long @ x_long.T, atol=1e-9)


@pytest.mark.parametrize("which", [0, 1])
def test_features_without_variance_are_refused(which):
    given = [random(16).normal(size=(9, 2)), random(17).normal(size=(9, 3))]
    given[which][:] = 0.1
    with pytest.raises(ValueError, match=f"the {('first', 'second')[which]} features are the same for all 9"):
        correlated(*given, 1.0)


def test_rows_without_a_common_direction_are_refused():
    a = np.array([[1.0], [-1], [1], [-1]])
    b = np.array([[1.0], [1], [-1], [-1]])
    with pytest.raises(ValueError, match="nothing to do with one another"):
        correlated(a, b, 1.0)
