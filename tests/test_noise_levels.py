import math
from statistics import NormalDist

import pytest
import torch
from helpers import DOUBLE, close, randn, seeded

import reverie.noise_levels
from reverie.noise_levels import (
    geometric_levels,
    langevin_step,
    langevin_variance,
    largest_distance,
    level_overlap,
    level_ratio,
)

# Song & Ermon (2020), as in their released settings: D, the largest level, how many down to 0.01, Langevin steps,
# epsilon. LSUN church, whose epsilon of 4.9e-6 is not the one of technique 4 (2.3e-6), has none here.
PUBLISHED = {
    "cifar10": (32 * 32 * 3, 50, 232, 5, 6.2e-6),
    "celeba": (64 * 64 * 3, 90, 500, 5, 3.3e-6),
    "church": (96 * 96 * 3, 140, 788, 4, None),
    "tower": (128 * 128 * 3, 190, 1086, 3, 1.8e-6),
    "ffhq": (256 * 256 * 3, 348, 2311, 3, 0.9e-6),
}
published = pytest.mark.parametrize(
    ("dimension", "high", "levels", "steps", "epsilon"), PUBLISHED.values(), ids=PUBLISHED
)


# -------------------------------------------------------------------------- technique 1: distance


@pytest.mark.parametrize("shape", [(2, 1), (7, 3), (300, 2, 3), (1500, 4)])
def test_the_largest_distance_is_exact(shape):
    data = randn(*shape)
    brute = max(float((data[i] - data).flatten(1).norm(dim=1).max()) for i in range(len(data)))
    assert largest_distance(data) == pytest.approx(brute, rel=1e-14)
    assert largest_distance(data + 1e6) == pytest.approx(brute, rel=1e-8)
    assert largest_distance(data.float()) == pytest.approx(brute, rel=1e-6)


@pytest.mark.parametrize("pair", [(0, 1), (0, 2499), (1023, 1024), (2048, 2499), (1500, 700)])
def test_the_largest_distance_is_found_wherever_it_is(pair):
    data = randn(2500, 2)
    data[list(pair)] = torch.tensor([[30.0, 0.0], [-30.0, 1.0]], dtype=DOUBLE)
    assert largest_distance(data) == pytest.approx(math.hypot(60, 1), rel=1e-14)


@pytest.mark.parametrize("block", [1, 100, 700])
def test_blocks_of_any_size_find_the_same(monkeypatch, block):
    data = randn(50, 7)
    expected = largest_distance(data)
    monkeypatch.setattr(reverie.noise_levels, "BLOCK", block)
    assert largest_distance(data) == expected


def test_of_many_examples_a_seeded_sample_is_taken(monkeypatch):
    monkeypatch.setattr(reverie.noise_levels, "MOST", 50)
    data = torch.rand(1000, 5, generator=seeded(1), dtype=DOUBLE)
    whole = max(float((data[i] - data).norm(dim=1).max()) for i in range(1000))
    found = largest_distance(data)
    assert 0.6 * whole < found < whole
    assert found == largest_distance(data, 0)
    assert found != largest_distance(data, seed=1) <= whole
    assert largest_distance(data[:50]) == pytest.approx(float(torch.cdist(data[:50], data[:50]).max()), rel=1e-12)


def test_one_example_has_no_distance():
    with pytest.raises(ValueError, match="at least 2 examples; given 1"):
        largest_distance(torch.zeros(1, 3))
    assert largest_distance(torch.zeros(2, 3)) == 0


# -------------------------------------------------------------------------- technique 2: levels


@pytest.mark.parametrize("dimension", [5, 64, 3072, 196_608])
@pytest.mark.parametrize("overlap", [0.01, 0.5, 0.9])
def test_the_ratio_solves_the_equation_of_technique_2(dimension, overlap):
    g, phi = level_ratio(dimension, overlap), NormalDist().cdf
    place = math.sqrt(2 * dimension) * (g - 1)
    assert phi(place + 3 * g) - phi(place - 3 * g) == pytest.approx(overlap, abs=1e-10)
    assert level_ratio(dimension) == level_ratio(dimension, 0.5)


def test_the_overlap_is_the_share_of_lengths():
    # The length of noise in D numbers is nearly N(sqrt(D), 1/2): within 3 deviations of the mean length at g times it.
    d, g = 400, 1.1
    lengths = torch.randn(20_000, d, generator=seeded(3)).norm(dim=1)
    share = float(((lengths - g * math.sqrt(d)).abs() < 3 * g * math.sqrt(0.5)).double().mean())
    assert share == pytest.approx(level_overlap(g, d), abs=0.02)  # 5 deviations of the share, and 1 / sqrt(D)


@published
def test_the_published_levels_overlap_by_0567(dimension, high, levels, steps, epsilon):
    # The paper asks for "approximately 0.5"; its own ladders all have the same overlap, a little more.
    ratio = (high / 0.01) ** (1 / (levels - 1))
    assert level_overlap(ratio, dimension) == pytest.approx(0.5666, abs=5e-4)
    assert geometric_levels(0.01, high, dimension, 0.5666) == pytest.approx(levels, abs=1)
    assert geometric_levels(0.01, high, dimension) == pytest.approx(0.9445 * levels, rel=5e-3)


def test_levels_of_cifar10():
    assert level_ratio(3072) == pytest.approx(1.039796, abs=1e-6)
    assert geometric_levels(0.01, 50, 3072) == 220


@pytest.mark.parametrize(("low", "high", "dimension"), [(0.01, 50, 3072), (1.0, 1.001, 64), (0.1, 9.0, 5)])
def test_the_fewest_levels_that_overlap_enough(low, high, dimension):
    n = geometric_levels(low, high, dimension)
    assert n >= 2
    assert (high / low) ** (1 / (n - 1)) <= level_ratio(dimension)
    assert n == 2 or (high / low) ** (1 / (n - 2)) > level_ratio(dimension)
    ratio = level_ratio(dimension)
    assert geometric_levels(1.0, ratio**3, dimension) == 4  # a whole number is not rounded up


@pytest.mark.parametrize("overlap", [0.0, -0.1, 0.9974, 1.0])
def test_an_overlap_that_no_levels_have_is_refused(overlap):
    with pytest.raises(ValueError, match=r"less than 0\.997"):
        level_ratio(3072, overlap)


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_in_low_dimensions_all_levels_overlap(dimension):
    assert min(level_overlap(g, dimension) for g in (1.0, 1.5, 3.0, 10.0, 1e6)) > 0.99
    with pytest.raises(ValueError, match=f"with {dimension} numbers in an example levels overlap"):
        level_ratio(dimension)
    assert level_overlap(level_ratio(5), 5) == pytest.approx(0.5)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (-1.0, 1.0)])
def test_levels_that_do_not_rise_are_refused(low, high):
    with pytest.raises(ValueError, match="0 < low < high"):
        geometric_levels(low, high, 3072)


# ---------------------------------------------------------------------------- technique 4: step


@published
def test_the_published_steps_are_those_of_technique_4(dimension, high, levels, steps, epsilon):
    ratio = (high / 0.01) ** (1 / (levels - 1))
    if epsilon is not None:
        assert langevin_step(ratio, steps) * 0.01**2 == pytest.approx(epsilon, rel=0.02)


def test_the_step_of_cifar10():
    assert langevin_step(5000 ** (1 / 231), 5) * 0.01**2 == pytest.approx(6.184e-6, rel=1e-4)
    assert langevin_variance(0.062, 5000 ** (1 / 231), 5) == pytest.approx(1.0555, abs=1e-4)


@pytest.mark.parametrize("ratio", [1.0001, 1.04, 1.5, 10.0, 1e4])
@pytest.mark.parametrize("steps", [1, 5, 100])
def test_no_other_step_comes_nearer_to_one(ratio, steps):
    best = langevin_step(ratio, steps)
    reached = langevin_variance(best, ratio, steps)
    others = torch.linspace(1e-6, 1 - 1e-6, 20_001, dtype=DOUBLE).tolist()
    assert all(1 < reached <= langevin_variance(e, ratio, steps) * (1 + 1e-12) for e in others)
    assert 0 < best < 1


@pytest.mark.parametrize("step", [0.01, 0.3, 1.0])
def test_the_variance_is_that_of_the_recursion(step):
    variance = 1.3**2
    for n in range(1, 9):
        variance = (1 - step) ** 2 * variance + 2 * step
        assert langevin_variance(step, 1.3, n) == pytest.approx(variance, rel=1e-13)
    printed = 2 * step / (1 - (1 - step) ** 2)  # eq. 4 as printed, in units of sigma_L^2
    assert langevin_variance(step, 1.3, 2) == pytest.approx((1 - step) ** 4 * (1.3**2 - printed) + printed, rel=1e-13)


@pytest.mark.parametrize(("ratio", "steps"), [(1.0, 5), (0.9, 5), (1.04, 0), (math.nan, 5)])
def test_levels_that_need_no_step_are_refused(ratio, steps):
    with pytest.raises(ValueError, match="ratio of levels above 1"):
        langevin_step(ratio, steps)
    assert close(langevin_step(1.04, 5), 0.065, 0.01)
