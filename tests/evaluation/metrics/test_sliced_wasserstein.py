import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics.sliced_wasserstein import SlicedWasserstein, directions, squared_distances


def draws(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


@pytest.mark.parametrize(("width", "count"), [(3, 12), (8, 20), (50, 7), (1, 256)])
def test_directions_are_orthonormal_in_groups(width, count):
    found = directions(width, count, 0)
    np.testing.assert_allclose((found**2).sum(0), 1, rtol=1e-12)
    for start, stop in pairwise([*range(0, found.shape[1], width), found.shape[1]]):
        group = found[:, start:stop]
        np.testing.assert_allclose(group.T @ group, np.eye(stop - start), atol=1e-12)
    assert np.array_equal(found, directions(width, count, 0))


@pytest.mark.parametrize("width", [1, 2, 16])
def test_of_a_shifted_set_is_the_shift_over_root_f(width):
    rng = draws(1, width)
    values, shift = rng.standard_normal((40, width)), rng.standard_normal(width)
    found = SlicedWasserstein(count=4 * width)(Features(values + shift), Features(values))
    assert found == pytest.approx(np.linalg.norm(shift) / math.sqrt(width), rel=1e-12)


def test_of_a_scaled_set():
    """W_2 of s x and x along any direction is |s - 1| times the root mean square of the projections."""
    values, s = draws(2).standard_normal((30, 5)), 1.7
    found = SlicedWasserstein(count=50)(Features(s * values), Features(values))
    assert found == pytest.approx((s - 1) * math.sqrt((values**2).sum(1).mean() / 5), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (7, 30), (30, 7), (1, 5), (9, 6)])
def test_in_one_dimension_is_exact_for_any_numbers(n, m):
    """Every point as often as the other set has points: then the sorted ones are matched in pairs."""
    rng = draws(3, n, m)
    a, b = rng.standard_normal(n), rng.standard_normal(m) + 0.5
    expected = ((np.repeat(np.sort(a), m) - np.repeat(np.sort(b), n)) ** 2).mean()
    assert squared_distances(a[:, None], b[:, None])[0] == pytest.approx(expected, rel=1e-12)
    found = SlicedWasserstein()(Features(a[:, None]), Features(b[:, None]))
    assert found == pytest.approx(math.sqrt(expected), rel=1e-12)
    assert found >= wasserstein_distance(a, b) - 1e-12  # W_2 is at least W_1, and that is scipy's


def test_of_a_set_with_itself_is_zero_and_symmetric():
    rng = draws(4)
    a, b = Features(rng.standard_normal((20, 3))), Features(rng.standard_normal((31, 3)))
    metric = SlicedWasserstein()
    assert metric(a, Features(a.values[::-1].copy())) == 0
    assert metric(a, b) == pytest.approx(metric(b, a), rel=1e-12)


def test_of_gaussians_is_the_closed_form():
    """N(0, s^2) beside N(0, 1) in the plane: |s - 1| along every direction; 20,000 samples leave some 1 %."""
    rng = draws(5)
    a, b = Features(1.5 * rng.standard_normal((20000, 2))), Features(rng.standard_normal((20000, 2)))
    assert SlicedWasserstein(count=32)(a, b) == pytest.approx(0.5, rel=0.04)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="count must be at least 1; given 0"):
        SlicedWasserstein(count=0)
    with pytest.raises(ValueError, match="seed must be at least 0; given -1"):
        SlicedWasserstein(seed=-1)
