"""Losses of single examples, what they tell, and the same by noise level."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from toys import trained

from reverie.audit import Settings, losses
from reverie.audit.gap import gap, levels
from reverie.audit.losses import common, places, table, times
from reverie.audit.membership import membership, scores
from reverie.conditioning import Cond
from reverie.evaluation.reading import of_run
from reverie.evaluation.team import Team
from reverie.runs import load

FEW = Settings(levels=3, draws=2)


@pytest.fixture(scope="module")
def run():
    return load(trained())


def test_common_noise_is_the_same_for_every_example_and_new_at_every_call():
    noise = common(3, 1)
    first, second = noise(torch.empty(4, 2, 5)), noise(torch.empty(4, 2, 5))
    assert (first == first[:1]).all()
    assert (first != second).all()
    assert (common(3, 1)(torch.empty(7, 2, 5))[0] == first[0]).all()
    assert (common(3, 2)(torch.empty(7, 2, 5))[0] != first[0]).all()


def test_places_share_out_the_interval():
    at = places(Settings(levels=4, draws=3))
    assert np.allclose(at.ravel(), (np.arange(12) + 0.5) / 12)


def test_the_table_holds_the_runs_own_loss(run):
    examples = of_run(run, most=5).train
    found = table(run, examples, FEW)
    assert found.shape == (5, 3)
    x0 = run.space.encode(torch.from_numpy(examples.items))
    cond = Cond(label=torch.from_numpy(examples.labels))
    for level in range(3):
        values = []
        for draw in range(2):
            u = torch.full((5,), places(FEW)[level, draw], dtype=torch.float64)
            with torch.no_grad():
                noise = common(FEW.seed, losses.MEMBERS, level, draw)
                values.append(run.recipe.loss(run.denoiser, x0, u, cond, noise))
        assert np.allclose(found[:, level], torch.stack(values).mean(0), rtol=1e-5)
    t = times(run, FEW)
    assert list(t) == sorted(t, reverse=True)


def test_an_example_has_the_same_losses_in_any_company(run):
    examples = of_run(run, most=70).train
    whole, part = table(run, examples, FEW), table(run, examples.take(np.arange(64, 70)), FEW)
    assert np.allclose(whole[64:], part, rtol=1e-5)

    class Threads(Team):
        def _each(self, work, own, threads):
            return super()._each(work, own, 3)

    assert (table(run, examples, FEW, Threads()) == whole).all()


# ---------------------------------------------------------------------------------------- findings


def drawn(number, shift, seed):
    """Losses of laws whose scores have an area in closed form: normal, one number an example at every level."""
    return np.random.default_rng(seed).standard_normal((number, 1)) * np.ones(4) * [1, 10, 3, 0.1] + shift


def test_the_area_is_that_of_two_normal_laws():
    scale = np.array([1, 10, 3, 0.1])
    train, held_out = drawn(3000, -0.8 * scale, 0), drawn(3000, 0, 1)
    found = membership(train, held_out, 0.1)
    truth = norm.cdf(0.8 / math.sqrt(2))
    assert found.low < truth < found.high
    assert found.high - found.low < 0.03
    assert found.p < 1e-9
    assert membership(train, held_out, 0.3).p > 0.99
    swapped = membership(held_out, train, 0.1)
    assert math.isclose(swapped.value, 1 - found.value, rel_tol=1e-9)


def test_levels_count_alike_whatever_their_scale():
    train, held_out = drawn(50, 0, 0), drawn(60, 0, 1)
    one = scores(train, held_out)
    other = scores(train * [1, 1e3, 1e-3, 1] + 5, held_out * [1, 1e3, 1e-3, 1] + 5)
    assert np.allclose(np.concatenate(one), np.concatenate(other), atol=1e-9)
    assert all(len(s) == n for s, n in zip(one, (50, 60), strict=True))


def test_p_values_are_uniform_where_nothing_is_remembered():
    random = np.random.default_rng(0)
    p = [membership(random.gamma(2, size=(80, 3)), random.gamma(2, size=(60, 3)), 0.0).p for _ in range(400)]
    assert kstest(p, "uniform").pvalue > 1e-4
    granted = [membership(random.gamma(2, size=(80, 3)), random.gamma(2, size=(60, 3)), 0.25).p for _ in range(50)]
    assert min(granted) > 0.01


def test_the_gap_and_its_error_by_level():
    random = np.random.default_rng(0)
    t, truth = (0.9, 0.5, 0.1), np.array([0.0, 0.1, 0.4])
    inside, errors = np.zeros(3), []
    for _ in range(300):
        rows = levels(t, random.normal(1.0, 0.5, (90, 3)), random.normal(1.0 + truth, 0.7, (60, 3)))
        inside += [abs(row.gap - true) <= 1.96 * row.error for row, true in zip(rows, truth, strict=True)]
        errors.append([row.error for row in rows])
    assert (inside >= 266).all()  # of 300 at 0.945 fewer have a probability of 3e-5
    assert np.allclose(np.mean(errors, 0), math.sqrt(0.25 / 90 + 0.49 / 60), rtol=0.02)
    assert [row.t for row in rows] == list(t)
    assert rows[2].p < 0.05 < rows[2].auc


def test_the_gap_of_all_levels_is_a_share_of_the_training_loss():
    random = np.random.default_rng(1)
    found = gap(random.normal(2.0, 0.1, (400, 4)), random.normal(2.5, 0.1, (300, 4)))
    assert math.isclose(found.value, 0.25, abs_tol=0.01)
    assert found.low < 0.25 < found.high
