import math

import numpy as np
import pytest
import torch

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics import Unfit, frechet
from reverie.evaluation.metrics.fid import FID, distance, expected_bias, moments
from reverie.evaluation.metrics.fid_infinity import FIDInfinity


def draws(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def features(rng, n, width, scale=1.0, shift=0.0):
    return Features(rng.standard_normal((n, width)) * scale + shift)


class Given(torch.nn.Module):
    """Features that are given as if they were pictures."""

    def __init__(self, width):
        super().__init__()
        self.num_features = width

    def forward(self, x):
        return x


@pytest.mark.parametrize(("n", "m", "width"), [(300, 200, 64), (90, 700, 32), (50, 50, 1)])
def test_equals_torchmetrics(n, m, width):
    from torchmetrics.image.fid import FrechetInceptionDistance

    rng = draws(1, n)
    mixing = rng.standard_normal((width, width))
    made, real = (Features(rng.standard_normal((k, width)) @ mixing + s) for k, s in ((n, 0.3), (m, 0.0)))
    theirs = FrechetInceptionDistance(feature=Given(width)).set_dtype(torch.float64)
    theirs.update(torch.from_numpy(made.values), real=False)
    theirs.update(torch.from_numpy(real.values), real=True)
    assert FID()(made, real) == pytest.approx(float(theirs.compute()), rel=1e-6)


def random_covariance(rng, width):
    mixing = rng.standard_normal((width, width))
    return mixing @ mixing.T / width


def test_of_gaussians_that_commute():
    """Equal eigenvectors: |m1 - m2|^2 + the sum of (sqrt l1 - sqrt l2)^2."""
    rng = draws(2)
    basis = np.linalg.qr(rng.standard_normal((9, 9)))[0]
    l1, l2, m1, m2 = rng.random(9), rng.random(9), rng.standard_normal(9), rng.standard_normal(9)
    found = frechet(m1, basis * l1 @ basis.T, m2, basis * l2 @ basis.T)
    assert found == pytest.approx(((m1 - m2) ** 2).sum() + ((l1**0.5 - l2**0.5) ** 2).sum(), rel=1e-12)


def test_of_gaussians_that_do_not_commute():
    """In the plane, tr C^(1/2) = (tr C + 2 det C^(1/2))^(1/2) for the product C of both covariances."""
    rng = draws(3)
    c1, c2 = random_covariance(rng, 2), random_covariance(rng, 2)
    root = math.sqrt(np.trace(c1 @ c2) + 2 * math.sqrt(np.linalg.det(c1 @ c2)))
    found = frechet(np.zeros(2), c1, np.ones(2), c2)
    assert found == pytest.approx(2 + np.trace(c1 + c2) - 2 * root, rel=1e-12)


def test_moments_in_parts_are_those_of_the_whole():
    values = features(draws(4), 9000, 5, shift=7.0).values
    mean, root = moments(values)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-14)
    np.testing.assert_allclose(root.T @ root, np.cov(values.T), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("n", "width"), [(500, 1280), (2000, 64), (20, 1)])
def test_of_a_set_with_itself_is_zero(n, width):
    """To rounding, never below, and with fewer examples than features too."""
    values = features(draws(5), n, width, shift=3.0).values
    found = distance(moments(values), moments(values.copy()))
    assert 0 <= found < 1e-12 * width


def test_symmetric_and_blind_to_order_rotation_and_shift():
    rng = draws(6)
    made, real = features(rng, 80, 12, 1.4), features(rng, 130, 12)
    value = FID()(made, real)
    assert FID()(real, made) == pytest.approx(value, rel=1e-12)
    assert FID()(made.take(rng.permutation(80)), real) == pytest.approx(value, rel=1e-12)
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    turned = [Features(f.values @ turn + 5.0) for f in (made, real)]
    assert FID()(*turned) == pytest.approx(value, rel=1e-10)
    assert FID()(Features(3 * made.values), Features(3 * real.values)) == pytest.approx(9 * value, rel=1e-12)


SPECTRA = {"equal": np.ones(24), "falling": 1 / (1 + np.arange(24.0)) ** 2}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_bias_is_the_one_stated(spectrum):
    """The mean over repeats within 5 standard errors (false alarm 6e-7) plus 5 % for the orders left out."""
    variances, n, m, rng = SPECTRA[spectrum], 160, 320, draws(7, len(spectrum))
    found = [
        FID()(features(rng, n, 24, variances**0.5), features(rng, m, 24, variances**0.5)) for _ in range(200)
    ]  # fmt: skip
    stated = expected_bias(np.diag(variances), n, m)
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    assert abs(np.mean(found) - stated) < 5 * error + 0.05 * stated
    assert error < 0.05 * stated


def test_note_states_the_bias_of_equal_variances():
    stated = expected_bias(np.eye(64), 500, 1000) / 64
    assert f"up to {stated:.2g} times" in FID().note(500, 1000, 64)


def test_bias_falls_as_one_over_n():
    """Of two halves of one law: N times the mean is the same at 100 and 400, within 5 standard errors plus 3 %."""
    rng, scaled, errors = draws(8), [], []
    for n in (100, 400):
        found = [n * FID()(features(rng, n, 8), features(rng, n, 8)) for _ in range(200)]
        scaled.append(np.mean(found))
        errors.append(np.std(found) / math.sqrt(len(found)))
    assert scaled[0] > 0
    assert abs(scaled[0] - scaled[1]) < 5 * math.hypot(*errors) + 0.03 * scaled[0]


def test_of_samples_approaches_the_closed_form():
    """The gap of the mean, less the scatter, falls as 1/N: four times the samples, a quarter of it, within 25 %."""
    rng, width = draws(9), 6
    c1, c2 = random_covariance(rng, width), random_covariance(rng, width)
    a, b = np.linalg.cholesky(c1), np.linalg.cholesky(c2)
    true, gaps = frechet(np.ones(width), c1, np.zeros(width), c2), []
    for n, repeats in ((50, 2000), (200, 2000)):
        found = [
            FID()(Features(rng.standard_normal((n, width)) @ a.T + 1), Features(rng.standard_normal((n, width)) @ b.T))
            for _ in range(repeats)
        ]
        gaps.append(np.mean(found) - true)
    assert gaps[0] > 0
    assert gaps[1] / gaps[0] == pytest.approx(0.25, rel=0.25)


@pytest.mark.parametrize("shift", [0.0, 0.1])
def test_fid_infinity_has_less_bias(shift):
    """Of features that are not Gaussian; the mean within 5 standard errors (false alarm 6e-7) plus a tenth of FID's."""
    rng, width, n, m, found = draws(10, int(10 * shift)), 24, 200, 300, []
    for _ in range(100):
        made, real = (Features(np.exp(0.3 * rng.standard_normal((k, width)))) for k in (n, m))
        made = Features(made.values + shift)
        found.append((FID()(made, real), FIDInfinity()(made, real)))
    bias = np.mean(found, axis=0) - width * shift**2
    errors = np.std(found, axis=0) / math.sqrt(len(found))
    assert bias[0] > 20 * errors[0]
    assert abs(bias[1]) < 5 * errors[1] + 0.1 * bias[0]


def test_fid_infinity_of_a_set_with_itself_is_zero():
    values = features(draws(11), 100, 8).values
    assert FIDInfinity()(Features(values), Features(values.copy())) == pytest.approx(0, abs=1e-12)


def test_too_few_are_told_what_would_do():
    rng = draws(12)
    with pytest.raises(Unfit, match=r"fid needs at least 33 samples .* 32 features; given 32 and 400; kid"):
        FID().check(features(rng, 32, 32), features(rng, 400, 32))
    FID().check(features(rng, 33, 32), features(rng, 33, 32))
    with pytest.raises(Unfit, match=r"at least 66 samples .* in each half; given 66 and 65"):
        FIDInfinity().check(features(rng, 66, 32), features(rng, 65, 32))
    FIDInfinity().check(features(rng, 66, 32), features(rng, 66, 32))
