import math

import numpy as np
import pytest

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics import Unfit, distances
from reverie.evaluation.metrics.density_coverage import Coverage, Density, expected_coverage
from reverie.evaluation.metrics.distances import nearest, radii, squared
from reverie.evaluation.metrics.precision_recall import Precision, Recall

EVERY = [Precision(), Recall(), Density(), Coverage()]
every = pytest.mark.parametrize("metric", EVERY, ids=lambda m: m.kind)


def draws(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def pair(rng, n=60, m=80, width=4, shift=0.8):
    return Features(rng.standard_normal((n, width)) + shift), Features(rng.standard_normal((m, width)))


def gap(a, b):
    return math.sqrt(((a - b) ** 2).sum())


def radius(points, i, k):
    return sorted(gap(points[i], p) for j, p in enumerate(points) if j != i)[k - 1]


def by_definition(metric, made, real):
    """One pair at a time, as the papers write it."""
    k = metric.nearest_k
    if isinstance(metric, Recall):
        made, real = real, made
    balls = [radius(real, i, k) for i in range(len(real))]
    inside = [[gap(y, x) <= r for x, r in zip(real, balls, strict=True)] for y in made]
    if isinstance(metric, Density):
        return sum(map(sum, inside)) / (k * len(made))
    if isinstance(metric, Coverage):
        return sum(any(row[i] for row in inside) for i in range(len(real))) / len(real)
    return sum(map(any, inside)) / len(made)


@every
@pytest.mark.parametrize("cells", [50, 1 << 22])
def test_is_its_definition_in_blocks_of_any_size(metric, cells, monkeypatch):
    monkeypatch.setattr(distances, "CELLS", cells)
    made, real = pair(draws(1))
    assert metric(made, real) == pytest.approx(by_definition(metric, made.values, real.values), rel=1e-12)


@every
def test_of_sets_apart_is_zero(metric):
    made, real = pair(draws(2), shift=1e3)
    assert metric(made, real) == 0


@pytest.mark.parametrize("metric", [Precision(), Recall(), Coverage()], ids=lambda m: m.kind)
def test_of_a_set_with_itself_is_one(metric):
    made, _ = pair(draws(3))
    assert metric(made, Features(made.values.copy())) == 1


@every
def test_blind_to_order_rotation_shift_and_scale(metric):
    rng = draws(4)
    made, real = pair(rng)
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    turned = [Features(1e3 * f.values @ turn + 1e3) for f in (made, real)]
    assert metric(*turned) == metric(made, real)
    assert metric(made.take(rng.permutation(60)), real) == metric(made, real)


def test_recall_is_precision_the_other_way():
    made, real = pair(draws(5))
    assert Recall()(made, real) == Precision()(real, made)


def test_a_stray_sample_lifts_recall_but_not_coverage():
    """What density and coverage were made for (Naeem et al., 2020, section 3)."""
    made, real = pair(draws(6), shift=0.0)
    crowd = Features(np.concatenate([made.values[:20] * 0.1, 40 * made.values[:4]]))
    assert Recall()(crowd, real) > 0.9
    assert Coverage()(crowd, real) < 0.6


@pytest.mark.parametrize(("n", "m", "k"), [(30, 30, 5), (20, 50, 3), (60, 25, 1)])
def test_coverage_of_perfect_samples_is_the_one_stated(n, m, k):
    """For any continuous law; the mean over 400 repeats within 5 standard errors (false alarm 6e-7)."""
    rng = draws(7, n)
    found = [
        Coverage(k)(Features(rng.standard_cauchy((n, 2))), Features(rng.standard_cauchy((m, 2)))) for _ in range(400)
    ]  # fmt: skip
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - expected_coverage(n, m, k)) < 5 * error
    assert f"{expected_coverage(n, m, k):.1%}" in Coverage(k).note(n, m, 2)


def test_density_of_perfect_samples_is_one():
    """A sample is among the k nearest with chance k / (M - 1 + 1): the mean is M / M (5 standard errors, 6e-7)."""
    rng = draws(8)
    found = [Density(4)(*pair(rng, 25, 40, 3, 0.0)) for _ in range(400)]
    assert abs(np.mean(found) - 1) < 5 * np.std(found) / math.sqrt(len(found))


def test_copies_are_at_distance_zero():
    """To the last bit, however far from the origin: else a memorised set had balls of rounding alone."""
    values = draws(9).standard_normal((10, 50)) + 1e4
    copies = Features(np.repeat(values, 5, axis=0))
    assert np.all(radii(copies, 4) == 0)
    assert np.all(radii(copies, 5) > 0)
    assert np.all(np.diag(squared(values, values)) == 0)
    assert Precision()(Features(values), copies) == 1


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e6])
def test_distances_are_those_of_the_differences(offset):
    rng = draws(10)
    a, b = rng.standard_normal((20, 6)) + offset, rng.standard_normal((30, 6)) + offset
    b[:5] = a[:5] + 1e-5 * rng.standard_normal((5, 6))
    expected = ((a[:, None] - b[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared(a, b), expected, rtol=1e-7)
    assert nearest(a, b).tolist() == expected.argmin(1).tolist()


@every
def test_settings_and_sets_that_do_not_fit_are_refused(metric):
    with pytest.raises(ValueError, match="nearest_k must be at least 1; given 0"):
        type(metric)(0)
    rng, k = draws(11), metric.nearest_k
    with pytest.raises(Unfit, match=f"needs at least {k + 1} samples .* given {k} and 50"):
        metric.check(*pair(rng, k, 50))
    metric.check(*pair(rng, k + 1, k + 1))
