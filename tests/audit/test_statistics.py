"""Intervals and tails against closed forms, enumeration and simulation."""

import math

import numpy as np
import pytest
from scipy.stats import betabinom, binom, binomtest, norm

from reverie.audit.statistics import (
    area,
    clopper_pearson,
    exceedance,
    holm,
    least_significant,
    normal_tail,
    permutation_p,
    permutations,
    wilson,
)


@pytest.mark.parametrize(("count", "n"), [(0, 10), (1, 10), (7, 31), (10, 10), (499, 1000)])
def test_clopper_pearson_ends_where_the_tails_are_a_fortieth(count, n):
    low, high = clopper_pearson(count, n)
    assert low == 0 if count == 0 else math.isclose(binom.sf(count - 1, n, low), 0.025, rel_tol=1e-9)
    assert high == 1 if count == n else math.isclose(binom.cdf(count, n, high), 0.025, rel_tol=1e-9)


@pytest.mark.parametrize(("count", "n"), [(0, 10), (1, 10), (7, 31), (10, 10)])
def test_wilson_is_that_of_scipy(count, n):
    theirs = binomtest(count, n).proportion_ci(method="wilson")
    assert np.allclose(wilson(count, n), (theirs.low, theirs.high), rtol=0, atol=1e-12)


def test_exceedance_is_the_share_of_all_orders_of_ranks():
    """n = 3 values among m = 4 others: every choice of their ranks is as likely."""
    from itertools import combinations

    for k in range(1, 5):
        counts = []
        for own in combinations(range(7), 3):
            others = [r for r in range(7) if r not in own]
            counts.append(sum(r < others[k - 1] for r in own))
        for count in range(4):
            assert math.isclose(exceedance(count, 3, k, 4), np.mean(np.array(counts) >= count), rel_tol=1e-12)


@pytest.mark.parametrize(("n", "k", "m"), [(20, 1, 50), (200, 5, 100), (7, 3, 9)])
def test_its_p_values_are_never_too_small(n, k, m):
    """P(p <= a) <= a for every a that p can be, summed exactly."""
    mass = betabinom.pmf(np.arange(n + 1), n, k, m + 1 - k)
    p = np.array([exceedance(c, n, k, m) for c in range(n + 1)])
    for a in p:
        assert mass[p <= a].sum() <= a * (1 + 1e-9)


@pytest.mark.parametrize(("level", "n", "k", "m"), [(0.01, 200, 2, 150), (0.001, 50, 1, 60), (0.05, 5, 1, 4)])
def test_the_least_significant_count(level, n, k, m):
    found = least_significant(level, n, k, m)
    tails = [exceedance(c, n, k, m) for c in range(n + 1)]
    assert found == next((c for c, p in enumerate(tails) if p <= level), None)


def test_no_count_is_significant_where_there_is_too_little():
    assert least_significant(0.001, 4, 1, 3) is None


# ------------------------------------------------------------------------------------------- areas


def by_pairs(positive, negative):
    above = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
    return above.mean(), above.mean(1).var(ddof=1) / len(positive) + above.mean(0).var(ddof=1) / len(negative)


def test_the_area_and_its_error_are_those_of_all_pairs():
    random = np.random.default_rng(0)
    a, b = random.integers(0, 12, 40) + 2.0, random.integers(0, 12, 70).astype(float)  # with ties
    value, variance = by_pairs(a, b)
    found = area(a, b)
    assert math.isclose(found.value, value, rel_tol=1e-12)
    assert math.isclose(found.error, math.sqrt(variance), rel_tol=1e-12)
    assert math.isclose(area(b, a).value, 1 - value, rel_tol=1e-12)
    assert math.isclose(area(b, a).low, 1 - found.high, rel_tol=1e-9)


@pytest.mark.parametrize("delta", [0.0, 0.5, 1.0, 2.0])
def test_two_normal_laws_have_the_area_of_the_closed_form_and_the_interval_holds_it(delta):
    """AUC = Phi(delta / sqrt 2). Of 600 intervals of 95 % at least 92 % hold it.

    With a coverage of 0.945 (the least that is asked of an interval called one of 95 %) fewer than 550 would hold it
    with a probability of 2e-4 ... of 0.95 with 5e-5, for each of the four.
    """
    random = np.random.default_rng(int(10 * delta) + 1)
    truth, held, values = norm.cdf(delta / math.sqrt(2)), 0, []
    for _ in range(600):
        found = area(random.standard_normal(80) + delta, random.standard_normal(120))
        held += found.low <= truth <= found.high
        values.append(found.value)
    assert abs(np.mean(values) - truth) < 4.5 * np.std(values) / math.sqrt(600)
    assert held >= binom.ppf(1e-5, 600, 0.945)


def test_scores_that_do_not_overlap_have_an_interval_too():
    found = area(np.arange(10.0) + 100, np.arange(20.0))
    assert found.value == 1.0
    assert 0.8 < found.low < 0.9
    assert found.high == 1.0
    assert found.error > 0
    other = area(np.arange(20.0), np.arange(10.0) + 100)
    assert (other.value, other.low) == (0.0, 0.0)
    same = area(np.zeros(10), np.zeros(20))
    assert same.value == 0.5
    assert same.low < 0.5 < same.high


# ----------------------------------------------------------------------------------- several tests


def test_holm():
    assert np.allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert holm([]) == ()
    assert holm([0.9, 0.8]) == (1.0, 1.0)


def test_holm_rejects_at_a_level_with_at_most_its_probability():
    """Of 4,000 families of 5 uniform p-values the share with any at most 0.05 is 1 - (1 - 0.01)^5 = 0.049."""
    random = np.random.default_rng(0)
    wrong = sum(min(holm(random.random(5).tolist())) <= 0.05 for _ in range(4000))
    assert wrong <= binom.isf(1e-5, 4000, 0.05)
    assert wrong >= binom.ppf(1e-5, 4000, 1 - 0.99**5)


def test_the_normal_tail_far_out():
    for z in (-3.0, 0.0, 1.5, 8.0, 30.0):
        assert math.isclose(normal_tail(z), norm.sf(z), rel_tol=1e-12)


def test_permutations_are_halves_and_belong_to_their_key():
    drawn = permutations(300, 11, 5, 1)
    assert (drawn.sum(1) == 5).all()
    assert len(np.unique(drawn, axis=0)) > 200  # of 462
    assert (drawn == permutations(300, 11, 5, 1)).all()
    assert (drawn != permutations(300, 11, 5, 2)).any()
    assert np.abs(drawn.mean(0) - 5 / 11).max() < 4.5 * math.sqrt(0.25 / 300)


def test_a_permutation_p_value_counts_itself():
    drawn = np.array([0.1, 0.2, 0.3])
    assert permutation_p(0.2, drawn) == 0.75
    assert permutation_p(0.9, drawn) == 0.25
