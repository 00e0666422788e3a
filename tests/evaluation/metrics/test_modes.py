import math

import numpy as np
import pytest

from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics import Unfit
from reverie.evaluation.metrics.modes import ModeBalance, Modes

PLACES = 10 * np.random.Generator(np.random.Philox(3)).standard_normal((8, 2))
"""Of eight modes far apart."""


def draws(*key):
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def mixture(rng, counts, labelled):
    """That many examples about each place."""
    of = np.repeat(np.arange(8), counts)
    values = PLACES[of] + 0.05 * rng.standard_normal((len(of), 2))
    return Features(values, labels=of if labelled else None)


labelled = pytest.mark.parametrize("labelled", [True, False], ids=["classes", "clusters"])


@labelled
@pytest.mark.parametrize(
    ("counts", "covered", "imbalance"),
    [
        ([20] * 8, 1.0, 0.0),
        ([40] * 4 + [0] * 4, 0.5, 0.5),
        ([160] + [0] * 7, 0.125, 0.875),
        ([30] * 4 + [10] * 4, 1.0, 0.25),
        ([36] * 4 + [4] * 4, 0.5, 0.4),
        ([35] * 4 + [5] * 4, 1.0, 0.375),
    ],
)
def test_modes_that_are_missing_are_counted(labelled, counts, covered, imbalance):
    rng = draws(1, *counts)
    made, real = mixture(rng, counts, False), mixture(rng, [25] * 8, labelled)
    for metric, expected in ((Modes(clusters=8), covered), (ModeBalance(clusters=8), imbalance)):
        metric.check(made, real)
        assert metric(made, real) == pytest.approx(expected, abs=1e-12)


def test_what_a_sample_was_asked_to_be_is_not_looked_at():
    rng = draws(2)
    made, real = mixture(rng, [80] + [0] * 7, True), mixture(rng, [25] * 8, True)
    asked = Features(made.values, labels=np.arange(80) % 8)
    assert Modes()(asked, real) == Modes()(made, real) == 0.125


def test_rare_groups_are_left_out():
    """Of 100 samples the last group should hold 2, which may well be none."""
    rng = draws(3)
    real = mixture(rng, [10, 10, 10, 10, 10, 10, 38, 2], True)
    assert Modes()(mixture(rng, [10, 10, 10, 10, 10, 10, 40, 0], False), real) == 1
    assert Modes()(mixture(rng, [10, 10, 10, 10, 10, 0, 40, 10], False), real) == pytest.approx(6 / 7)


def test_bias_of_the_imbalance_is_the_one_stated():
    """Of the same law with 8 equal groups: sqrt(7) times what the note says, within 5 standard errors plus 5 %.

    Each difference of shares has variance p (1 - p) (1/N + 1/M), and a normal one is on average sqrt(2/pi) of its
    standard deviation from 0.
    """
    rng, n, m, found = draws(4), 200, 400, []
    for _ in range(200):
        made, real = (mixture(rng, rng.multinomial(k, [1 / 8] * 8), True) for k in (n, m))
        found.append(ModeBalance()(made, real))
    stated = math.sqrt((1 / n + 1 / m) / (2 * math.pi)) * math.sqrt(7)
    assert abs(np.mean(found) - stated) < 5 * np.std(found) / math.sqrt(200) + 0.05 * stated


@pytest.mark.parametrize("metric", [Modes(), ModeBalance()], ids=lambda m: m.kind)
def test_sets_too_small_to_fill_the_groups_are_refused(metric):
    rng = draws(5)
    with pytest.raises(Unfit, match=r"more samples than 24: the largest group should hold 3\.0"):
        metric.check(mixture(rng, [3] * 8, False), mixture(rng, [25] * 8, True))
    with pytest.raises(Unfit, match="20 clusters of different real examples"):
        metric.check(mixture(rng, [30] * 8, False), Features(np.repeat(PLACES, 9, axis=0)))
    with pytest.raises(ValueError, match="clusters must be at least 2; given 1"):
        type(metric)(clusters=1)


def test_a_part_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"part must be in \(0, 1\]; given 0"):
        Modes(part=0)
