import math

import numpy as np
import pytest
import torch

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics import Unfit, distances
from reverie.evaluation.metrics.cmmd import CMMD
from reverie.evaluation.metrics.discrepancy import Bell, Cubic, squared_mmd
from reverie.evaluation.metrics.kid import KID
from reverie.evaluation.metrics.mmd import MMD, bandwidth


def draws(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def features(rng, n, width, scale=1.0, shift=0.0):
    return Features(rng.standard_normal((n, width)) * scale + shift)


def by_definition(x, y, kernel):
    """Sums over pairs, one pair at a time."""

    def within(a):
        pairs = [kernel(p, q) for i, p in enumerate(a) for j, q in enumerate(a) if i != j]
        return sum(pairs) / len(pairs)

    return within(x) + within(y) - 2 * sum(kernel(p, q) for p in x for q in y) / (len(x) * len(y))


class Given(torch.nn.Module):
    def forward(self, x):
        return x


def test_kid_equals_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    rng = draws(1)
    made, real = features(rng, 200, 48, 1.1), features(rng, 200, 48)
    theirs = KernelInceptionDistance(feature=Given(), subsets=1, subset_size=200).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(made.values), real=False)
    theirs.update(torch.from_numpy(real.values), real=True)
    assert KID()(made, real) == pytest.approx(float(theirs.compute()[0]), rel=1e-9)


@pytest.mark.parametrize("cells", [1, 7, 100, 1 << 22])
def test_is_its_definition_in_blocks_of_any_size(cells, monkeypatch):
    monkeypatch.setattr(distances, "CELLS", cells)
    rng = draws(2)
    made, real = features(rng, 13, 5, 1.5), features(rng, 9, 5)
    cubic = by_definition(made.values, real.values, lambda a, b: (a @ b / 5 + 1) ** 3)
    assert squared_mmd(made, real, Cubic()) == pytest.approx(cubic, rel=1e-12)
    bell = by_definition(made.values, real.values, lambda a, b: math.exp(-((a - b) ** 2).sum() / (2 * 1.7**2)))
    assert squared_mmd(made, real, Bell(1.7)) == pytest.approx(bell, rel=1e-12)


@pytest.mark.parametrize("metric", [KID(), MMD(), CMMD()], ids=lambda m: m.kind)
def test_is_unbiased(metric):
    """Of 20 samples of the very law: the mean over 400 repeats is 0 within 5 standard errors (false alarm 6e-7).

    The scale of MMD comes from the real examples, so that there the mean is 0 given it only up to its own chance.
    """
    rng = draws(3)
    found = [metric(features(rng, 20, 6), features(rng, 30, 6)) for _ in range(400)]
    assert abs(np.mean(found)) < 5 * np.std(found) / math.sqrt(len(found))
    assert min(found) < 0 < max(found)


def test_mmd_of_gaussians_is_the_closed_form():
    """N(s, 1) beside N(0, 1) in F dimensions, bandwidth h: 2 (h^2 / (h^2 + 2))^(F/2) (1 - exp(-|s|^2 / (2 (h^2 + 2)))).

    The mean over repeats within 5 standard errors (false alarm 6e-7), which are below a tenth of it.
    """
    rng, h, width, shift = draws(4), 1.5, 3, 0.7
    found = [squared_mmd(features(rng, 60, width, shift=shift), features(rng, 60, width), Bell(h)) for _ in range(200)]
    norm = width * shift**2
    true = 2 * (h**2 / (h**2 + 2)) ** (width / 2) * (1 - math.exp(-norm / (2 * (h**2 + 2))))
    error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - true) < 5 * error
    assert error < 0.1 * true


def test_kid_sees_the_third_moment():
    """A law and its mirror image have the same mean and covariance here; only the cubic term tells them apart."""
    rng = draws(5)
    skewed = rng.exponential(size=(2000, 4)) - 1
    found = KID()(Features(skewed), Features(-skewed))
    third = 4 * 2.0**2  # the squared length of E[x x x]: 2 in each of 4 directions
    assert found == pytest.approx(4 * third / 4**3, rel=0.3)  # |T - (-T)|^2 / F^3


@pytest.mark.parametrize("metric", [KID(), MMD(), CMMD()], ids=lambda m: m.kind)
def test_blind_to_order_and_rotation(metric):
    rng = draws(6)
    made, real = features(rng, 40, 6, 1.4, 0.5), features(rng, 50, 6)
    value = metric(made, real)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    assert metric(Features(made.values @ turn), Features(real.values @ turn)) == pytest.approx(value, rel=1e-9)
    assert metric(made.take(rng.permutation(40)), real) == pytest.approx(value, rel=1e-12)


def test_mmd_takes_its_scale_from_the_real_examples():
    rng = draws(7)
    made, real = features(rng, 40, 6, 1.4), features(rng, 50, 6)
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(real.values) for b in real.values[:i]]
    assert bandwidth(real) == pytest.approx(np.median(pairs), rel=1e-12)
    scaled = MMD()(Features(1e3 * made.values + 7), Features(1e3 * real.values + 7))
    assert scaled == pytest.approx(MMD()(made, real), rel=1e-8)


def test_cmmd_is_that_of_the_paper_less_the_pairs_of_one():
    rng = draws(8)
    made, real = features(rng, 12, 5, shift=0.4), features(rng, 15, 5, 2.0)
    x, y = (f.values / np.linalg.norm(f.values, axis=1, keepdims=True) for f in (made, real))
    expected = 1000 * by_definition(x, y, lambda a, b: math.exp(-((a - b) ** 2).sum() / 200))
    assert CMMD()(made, real) == pytest.approx(expected, rel=1e-9)
    longer = Features(made.values * rng.uniform(1, 9, (12, 1)))
    assert CMMD()(longer, real) == pytest.approx(expected, rel=1e-9)


def test_what_has_no_scale_or_direction_is_refused():
    rng = draws(9)
    same = Features(np.concatenate([np.zeros((80, 3)), rng.standard_normal((5, 3))]))
    with pytest.raises(Unfit, match="most are equal"):
        MMD().check(features(rng, 10, 3), same)
    with pytest.raises(Unfit, match="length above 0"):
        CMMD().check(features(rng, 10, 3), same)
    with pytest.raises(Unfit, match="kid needs at least 2 samples"):
        KID().check(features(rng, 1, 3), same)
