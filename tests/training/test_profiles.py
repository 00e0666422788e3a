"""Power-function profiles: their moments, inner products and the mixtures nearest to a target, by quadrature."""

import itertools

import numpy as np
import pytest
import torch
from helpers import close, randn

from reverie.training.ema import PowerAverages, power_decay
from reverie.training.profiles import LONGEST, Profile, exponent, inner, matched, relative_length

LENGTHS = [0.01, 0.05, 0.1, 0.2, LONGEST]
NODES, SHARES = np.polynomial.legendre.leggauss(400)


def integral(f, until):
    """Of f(tau) from 0 to `until`, by Gauss and Legendre in s = (tau / until)^(1/4), where powers of tau are smooth."""
    s = (NODES + 1) / 2
    return float((f(until * s**4) * 4 * s**3).dot(SHARES)) / 2 * until


def density(p):
    return lambda tau: np.where(tau <= p.step, (p.gamma + 1) / p.step * (tau / p.step) ** p.gamma, 0.0)


def cells(p, steps):
    """(steps,): the integral of p over each step."""
    edge = torch.arange(steps + 1, dtype=torch.float64).clamp(max=p.step) / p.step
    return (edge ** (p.gamma + 1)).diff()


# --------------------------------------------------------------------------------- one profile


@pytest.mark.parametrize("length", LENGTHS)
def test_the_length_is_the_standard_deviation_of_the_profile(length):
    p = Profile(50, length)
    mass, mean, square = (integral(lambda tau, k=k: density(p)(tau) * (tau / p.step) ** k, p.step) for k in (0, 1, 2))
    assert mass == pytest.approx(1, rel=1e-10)
    assert (square - mean**2) ** 0.5 == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("length", [1e-9, 1e-3, *LENGTHS])
def test_exponent_and_length_are_inverse(length):
    gamma = exponent(length)
    assert gamma > 0
    assert relative_length(gamma) == pytest.approx(length, rel=1e-12)
    assert exponent(relative_length(7.25)) == pytest.approx(7.25, rel=1e-12)
    # Karras et al. (2024): gamma is a root of (gamma + 2)^2 (gamma + 3) = (gamma + 1) / length^2
    assert (gamma + 2) ** 2 * (gamma + 3) * length**2 == pytest.approx(gamma + 1, rel=1e-9)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.281, 12**-0.5, 1.0, float("nan"), float("inf")])
def test_a_length_out_of_range_is_refused(length):
    with pytest.raises(ValueError, match=r"greater than 0 and at most 0\.28 .*given"):
        exponent(length)


def test_an_average_has_a_first_step():
    with pytest.raises(ValueError, match="begins with step 1; given 0"):
        Profile(0, 0.1)


# ------------------------------------------------------------------------------- the averages


@pytest.mark.parametrize("gamma", [0.0, 0.5, 6.94, 16.97])
def test_the_update_moves_by_the_integral_of_the_profile_over_a_step(gamma):
    """beta(n) = (1 - 1/n)^(gamma + 1), and (1 - beta(m)) prod_(m < k <= n) beta(k) is the profile from m - 1 to m."""
    n = 40
    beta = torch.tensor([power_decay(k, gamma) for k in range(1, n + 1)], dtype=torch.float64)
    assert close(beta, (1 - 1 / torch.arange(1.0, n + 1, dtype=torch.float64)) ** (gamma + 1))
    after = torch.tensor([float(beta[m:].prod()) for m in range(1, n + 1)], dtype=torch.float64)
    edge = torch.arange(n + 1, dtype=torch.float64) / n
    assert close((1 - beta) * after, (edge ** (gamma + 1)).diff())


def test_averages_are_direct_sums_over_the_trajectory():
    net = torch.nn.Linear(3, 2).double()
    lengths, steps = (0.02, 0.1, 0.25), 60
    averages = PowerAverages(net, lengths)
    history = []
    for n in range(1, steps + 1):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(randn(*p.shape, seed=n))
        averages.update(net, n)
        history.append(net.weight.detach().clone())
        for length, state in averages.of(net).items():
            shares = cells(Profile(n, length), n)
            assert close(state["weight"], torch.einsum("n,nij->ij", shares, torch.stack(history)))


def test_averages_come_back_and_later_ones_begin_with_the_weights_there_are():
    net = torch.nn.Linear(3, 2).double()
    averages = PowerAverages(net, (0.05, 0.1))
    before = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.mul_(2)
    averages.update(net, 30)
    other = PowerAverages(torch.nn.Linear(3, 2).double(), (0.1, 0.2))
    assert other.restore(net, averages.tensors()) == [0.2]
    assert torch.equal(other.of(net)[0.1]["weight"], averages.of(net)[0.1]["weight"])
    assert torch.equal(other.of(net)[0.2]["weight"], net.weight)
    # up to there the weights count as constant: after another change the share of the past is (n / m)^(gamma + 1)
    with torch.no_grad():
        net.weight.zero_()
    for n in range(31, 41):
        other.update(net, n)
    assert close(other.of(net)[0.2]["weight"], 2 * before * (30 / 40) ** (exponent(0.2) + 1))


def test_a_parameter_that_two_layers_share_is_averaged_under_both_names():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)).double()
    net[1].weight = net[0].weight
    averages = PowerAverages(net, (0.1,))
    averages.update(net, 5)
    with torch.no_grad():
        net[0].weight.add_(1)
    averages.update(net, 6)
    state = averages.of(net)[0.1]
    assert torch.equal(state["0.weight"], state["1.weight"])
    assert not torch.equal(state["0.weight"], net[0].weight)


# ------------------------------------------------------------------------------------ mixtures


@pytest.mark.parametrize("p", [Profile(30, 0.05), Profile(100, 0.28), Profile(100, 0.01)])
@pytest.mark.parametrize("q", [Profile(30, 0.1), Profile(77, 0.05), Profile(100, 0.2)])
def test_inner_products(p, q):
    direct = integral(lambda tau: density(p)(tau) * density(q)(tau), min(p.step, q.step))
    assert inner(p, q) == inner(q, p) == pytest.approx(direct, rel=1e-8)


def even(steps=64, n=8, lengths=(0.05, 0.1)):
    return [Profile(steps * i // n, length) for i in range(1, n + 1) for length in lengths]


@pytest.mark.parametrize("target", [Profile(64, 0.07), Profile(64, 0.02), Profile(64, 0.2), Profile(60, 0.1)])
def test_a_mixture_is_the_nearest_of_those_that_sum_to_one(target):
    """No direction that keeps the sum shortens the distance, and the distance is that found by quadrature."""
    profiles = even()
    found, mismatch = matched(profiles, target)
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    gram = torch.tensor([[inner(p, q) for q in profiles] for p in profiles], dtype=torch.float64)
    aim = torch.tensor([inner(p, target) for p in profiles], dtype=torch.float64)
    slope = gram @ found - aim
    assert float((slope - slope.mean()).abs().max()) < 1e-10 * float(gram.max())

    edges, square = sorted({0, *(p.step for p in profiles), target.step}), 0.0
    for a, b in itertools.pairwise(edges):  # between the ends of the profiles all is smooth
        tau = (a + b) / 2 + (b - a) / 2 * NODES
        mixed = sum(float(c) * density(p)(tau) for c, p in zip(found, profiles, strict=True))
        square += float(((mixed - density(target)(tau)) ** 2).dot(SHARES)) * (b - a) / 2
    assert mismatch == pytest.approx((square / inner(target, target)) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("target", [even()[-1], even()[-2], even()[6]])
@pytest.mark.parametrize("n", [8, 32])
def test_a_profile_that_is_there_is_matched_exactly(target, n):
    profiles = even(n=n)
    found, mismatch = matched(profiles, target)
    one = torch.tensor([float(p == target) for p in profiles], dtype=torch.float64)
    assert close(found, one, 1e-10)
    assert mismatch < 1e-7


def test_profiles_that_are_there_twice_or_alone():
    p = Profile(10, 0.1)
    assert close(matched([p, p], p)[0], torch.full((2,), 0.5), 1e-10)
    assert close(matched([p], Profile(10, 0.2))[0], torch.ones(1))
    with pytest.raises(ValueError, match="give at least one"):
        matched([], p)


def test_what_all_steps_have_in_common_comes_out_exactly_and_the_rest_nearly():
    """A random walk far from 0, averaged directly and by mixtures of 8 snapshots of two lengths.

    Of the distance between the averages of lengths 0.05 and 0.1, the mixture is off by less than the stated
    share; left free, as least squares alone would have it, the weights sum to 0.99 or so and move with the origin.
    """
    steps, origin = 800, 50.0
    walk = origin + randn(steps, 500).cumsum(0) * 0.05
    profiles = even(steps)
    snapshots = torch.stack([cells(p, steps) @ walk for p in profiles])
    unit = float((snapshots[-1] - snapshots[-2]).norm())
    gram = torch.tensor([[inner(p, q) for q in profiles] for p in profiles], dtype=torch.float64)
    for length, share in ((0.03, 0.15), (0.04, 0.04), (0.07, 0.015), (0.15, 0.02), (0.2, 0.1)):
        target = Profile(steps, length)
        truth = cells(target, steps) @ walk
        off = float((matched(profiles, target)[0] @ snapshots - truth).norm()) / unit
        assert off < share
        aim = torch.tensor([inner(p, target) for p in profiles], dtype=torch.float64)
        free = torch.linalg.solve(gram, aim)
        assert float((free @ snapshots - truth).norm()) / unit > 10 * off
