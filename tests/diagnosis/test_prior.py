"""Cosines by hand, and which difference is no chance."""

import math

import pytest
import torch

from reverie.diagnosis import cosines


def turned(*degrees):
    """(N, 2), of any length."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], 1) * torch.arange(1, len(degrees) + 1)[:, None]


def cos(degrees):
    return math.cos(math.radians(degrees))


def test_by_hand():
    true = turned(0, 30, 90)
    found = cosines(turned(10, 30, 70), true, turned(60, 60, 60), torch.tensor([1.0, 0.0], dtype=torch.float64))
    prior, nearest, mean = ([cos(v) for v in angles] for angles in ((10, 0, 20), (60, 30, 30), (0, 30, 90)))
    for got, wanted in (
        (found.prior, prior),
        (found.nearest, nearest),
        (found.mean, mean),
        (found.over_nearest, [a - b for a, b in zip(prior, nearest, strict=True)]),
        (found.over_mean, [a - b for a, b in zip(prior, mean, strict=True)]),
    ):
        average = sum(wanted) / 3
        spread = math.sqrt(sum((v - average) ** 2 for v in wanted) / 2)
        assert got == pytest.approx((average, spread / math.sqrt(3)), abs=1e-12)
    assert found.n == 3


def test_a_group_is_one_value():
    true, mean = turned(0, 30, 90, 0), torch.tensor([1.0, 0.0], dtype=torch.float64)
    guesses = turned(10, 30, 70, 60), true, turned(60, 60, 60, 60), mean
    found = cosines(*guesses, torch.tensor([5, 2, 2, 7]))
    own = [cos(10), (cos(0) + cos(20)) / 2, cos(60)]
    average = sum(own) / 3
    error = math.sqrt(sum((v - average) ** 2 for v in own) / 2 / 3)
    assert found.prior == pytest.approx((average, error), abs=1e-12)
    assert found.n == 3
    assert cosines(*guesses, torch.tensor([3, 1, 0, 2])).prior == pytest.approx(cosines(*guesses).prior)
    for group, message in (([1, 1, 1, 1], "at least 2 groups"), ([1, 2, 3], "group must be of 4")):
        with pytest.raises(ValueError, match=message):
            cosines(*guesses, torch.tensor(group))


def test_differences_are_of_pairs():
    """What all three guesses share by example does not widen the error of a difference."""
    g = torch.Generator().manual_seed(0)
    true, noise = torch.randn(200, 8, generator=g), 3 * torch.randn(200, 8, generator=g)
    found = cosines(true + noise, true, true + 1.02 * noise, torch.randn(8, generator=g))
    assert found.over_nearest[1] < 0.1 * found.prior[1]
    assert found.over_nearest[0] == pytest.approx(found.prior[0] - found.nearest[0])


@pytest.mark.parametrize(
    ("predicted", "nearest", "faulty", "words"),
    [
        (0.3, 1.0, False, "nearer the true embeddings than the nearest known"),
        (1.0, 1.0, False, "no better than the nearest embedding known"),
        (1e6, 1.0, True, "the prior is at fault"),
    ],
)
def test_what_is_at_fault(predicted, nearest, faulty, words):
    """Guesses are the truth and so much noise."""
    g = torch.Generator().manual_seed(1)
    true, a, b = (torch.randn(100, 16, generator=g) for _ in range(3))
    found = cosines(true + predicted * a, true, true + nearest * b, torch.randn(16, generator=g))
    assert found.faulty is faulty
    assert words in found.words
    assert len(found.rows()) == 3


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((1, 4), (1, 4), (1, 4), (4,)), r"at least 2 examples .* given \(1, 4\)"),
        (((5, 4), (4, 4), (5, 4), (4,)), r"true must be of \(5, 4\).* given \(4, 4\)"),
        (((5, 4), (5, 4), (5, 3), (4,)), r"nearest must be of \(5, 4\)"),
        (((5, 4), (5, 4), (5, 4), (5, 4)), r"mean must be of \(4,\)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(ValueError, match=message):
        cosines(*map(torch.ones, shapes))
