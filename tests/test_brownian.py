"""Brownian paths: their law, and that they are a function of the seed and the time alone."""

import itertools
import math
import random

import pytest
import torch
from helpers import DOUBLE, close, seeded

from reverie.brownian import FINENESS, UNITS, _Tree, increment, paths
from reverie.tensors import host, streams

EVEN = [i / 100 for i in range(101)]
UNEVEN = [0.0, 1e-9, 3e-7, 1.234e-4, 0.01, 0.1, 1 / 3, 0.5, 0.50013, 0.7, 0.999, 0.9999999, 1.0]
GRIDS = {"even": EVEN, "uneven": UNEVEN, "fine": [0.4 + i / 4000 for i in range(40)]}
every_grid = pytest.mark.parametrize("times", GRIDS.values(), ids=GRIDS)


def batch(rows, *shape):
    return torch.zeros(rows, *shape, dtype=DOUBLE)


def walked(path, like, t, s):
    """W(t) - W(s)."""
    return path.increment(like, t, s) * math.sqrt(t - s)


def normal(z, false_alarm=1e-6):
    """Whether numbers could be draws of a standard normal, by their Kolmogorov distance (Massart, 1990)."""
    z, n = z.flatten().sort().values, z.numel()
    cdf, rank = torch.special.ndtr(z), torch.arange(n, dtype=DOUBLE)
    off = torch.maximum(cdf - rank / n, (rank + 1) / n - cdf).max()
    return float(off) < math.sqrt(math.log(2 / false_alarm) / (2 * n))


# --------------------------------------------------------------------------------------- the law


@every_grid
def test_increments_are_standard_normal_and_independent(times):
    """Correlations have standard deviation n^-1/2; 6 of them over 5000 pairs: false alarms below 1e-5."""
    n = 3000
    path, like = paths(range(n)), batch(n, 2)
    z = torch.stack([path.increment(like, t, s) for s, t in itertools.pairwise(times)])
    assert all(normal(one, 1e-7) for one in z)
    together = z.flatten(1)  # (steps, n * 2)
    correlation = together @ together.T / together.shape[1]
    off = correlation - correlation.diagonal().diag()
    assert float(off.abs().max()) < 6 / math.sqrt(together.shape[1])
    assert abs(float((z[:, :, 0] * z[:, :, 1]).mean())) < 5 / math.sqrt(n * len(z))  # numbers of a sample
    assert abs(float((z[:, 1:] * z[:, :-1]).mean())) < 5 / math.sqrt(n * len(z))  # neighbouring seeds
    assert not normal(1.1 * z)  # and it would be seen, were the noise of another size


def test_the_tests_of_the_law_have_power():
    z = torch.randn(8000, generator=seeded(1), dtype=DOUBLE)
    assert normal(z, 1e-7)
    assert not normal(1.15 * z, 1e-7)
    assert not normal(z + 0.1, 1e-7)


@every_grid
def test_the_whole_is_the_sum_of_its_parts(times):
    like = batch(3, 5)
    path = paths([3, 1, 4])
    for a, b, c in [times[i : i + 3] for i in range(0, len(times) - 2, 3)]:
        parts = walked(path, like, b, a) + walked(path, like, c, b)
        assert close(parts, walked(paths([3, 1, 4]), like, c, a), 1e-14)
    total = sum(walked(path, like, t, s) for s, t in itertools.pairwise(times))
    assert close(total, walked(path, like, times[-1], times[0]), 1e-13)


def test_the_variance_and_covariance_are_those_of_a_wiener_process():
    """Cov(W(s), W(t)) = min(s, t) at times of every kind, exactly: from the weights of the draws, without chance."""

    class Unit(_Tree):
        """The draws of the k-th place asked for are 1 in column k and 0 elsewhere."""

        def _normal(self, place, use):
            k = known.setdefault((place, use), len(known))
            z = torch.zeros(1, self.n, dtype=DOUBLE).numpy()
            z[0, k] = 1
            return z

    known = {}
    times = [0.0, 1e-12, 2e-6, 0.003, 1 / 7, 1 / 3, 0.5, 0.5 + 1 / 3999, 0.70001, 0.8, 0.99, 1 - 1e-6, 1.0]
    tree = Unit([None], 2000)
    w = torch.stack([torch.from_numpy(tree.difference(t, 0.0))[0] for t in times])
    t = host(torch.tensor(times, dtype=DOUBLE))
    off = (w @ w.T - torch.minimum(t[:, None], t)).abs() / torch.minimum(t[:, None], t).clamp_min(1e-300)
    assert float(off.max()) < 1e-9


def test_no_two_times_of_a_grid_fall_into_one_leaf_up_to_4000_steps():
    class Leaves(_Tree):
        def _normal(self, place, use):
            asked.append((place, use))
            return super()._normal(place, use)

    for times in ([1 - i / 3999 for i in range(4000)], [10 ** (-9 * i / 4000) for i in range(4001)]):
        asked, tree = [], Leaves([paths([0])._keys[0]], 1)
        for t, s in itertools.pairwise(times):
            tree.difference(t, s)
        assert len(asked) == len(set(asked))  # nothing is drawn twice, no leaf is asked twice
        assert len(asked) < 7 * len(times)
    assert FINENESS > UNITS / 2  # so that every unit is split


def test_a_path_goes_on_inside_a_leaf():
    """Two times in one leaf: no longer a Wiener process, but a continuous path through the leaf's ends."""
    path, like = paths(range(2000)), batch(2000, 2)
    step = 2.0**-13 / UNITS
    near = walked(path, like, 0.3 + 2.2 * step, 0.3 + 2.1 * step)
    assert 0 < float(near.std()) < 10 * math.sqrt(step)
    assert close(near + walked(path, like, 0.3 + 2.1 * step, 0.1), walked(path, like, 0.3 + 2.2 * step, 0.1), 1e-13)


# ------------------------------------------------------------------- a function of seed and time


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_a_samples_path_is_its_own_bit_for_bit_in_any_batch(rows):
    like, seeds = batch(16, 3, 2), [(5, i) for i in range(16)]
    times = EVEN[:40:3] + UNEVEN[2:]
    whole = paths(seeds)
    expected = [whole.increment(like, t, s) for s, t in itertools.pairwise(sorted(times))]
    for start in range(0, 16, rows):
        part = paths(seeds[start : start + rows])
        for (s, t), e in zip(itertools.pairwise(sorted(times)), expected, strict=True):
            assert torch.equal(part.increment(like[start : start + rows], t, s), e[start : start + rows])


def test_the_order_of_questions_does_not_matter():
    like = batch(4, 3)
    pairs = [(t, s) for s, t in itertools.pairwise(sorted({*EVEN, *UNEVEN}))] + [(1.0, 0.0), (0.7, 0.2), (1 / 3, 0.01)]
    expected = {pair: paths(range(4)).increment(like, *pair) for pair in pairs}  # each asked of a new path
    for shuffle in range(3):
        random.Random(shuffle).shuffle(pairs)
        path = paths(range(4))
        for pair in pairs:
            assert torch.equal(path.increment(like, *pair), expected[pair])
            path(like)  # plain draws in between


def test_times_may_differ_by_example():
    like, path = batch(4, 3), paths(range(4))
    t = torch.tensor([0.9, 0.5, 0.31, 1.0], dtype=DOUBLE)
    s = torch.tensor([0.2, 0.5, 0.3, 0.0], dtype=DOUBLE)
    found = path.increment(like, t, s)
    for i in (0, 2, 3):
        assert torch.equal(found[i], path.increment(like, t[i], s[i])[i])
    assert torch.equal(found[1], torch.zeros(3, dtype=DOUBLE))
    assert torch.equal(path.increment(like, t, host(0.1))[0], path.increment(like, 0.9, 0.1)[0])
    assert torch.equal(path.increment(like, s, t), -found)


def test_the_path_is_the_same_in_any_precision_and_as_far_as_it_goes():
    like, path = batch(2, 6), paths([1, 2])
    z = path.increment(like, 0.4, 0.3)
    assert torch.equal(path.increment(like.float(), 0.4, 0.3), z.float())
    assert path.increment(like.half(), 0.4, 0.3).dtype == torch.float16
    assert torch.equal(path.increment(like[:, :4], 0.4, 0.3), z[:, :4])
    assert torch.equal(path.increment(like.reshape(2, 3, 2), 0.4, 0.3).flatten(1), z)
    assert path.increment(batch(2), 0.4, 0.3).shape == (2,)


def test_times_that_differ_by_rounding_are_one_time():
    like = batch(3, 4)
    for i in range(1, 100):
        t = i / 100
        z = paths(range(3)).increment(like, t, 0.0)
        assert close(paths(range(3)).increment(like, math.nextafter(t, 1), 0.0), z, 1e-14)


def test_plain_draws_are_those_of_streams_and_independent_of_the_path():
    n = 20_000
    like, path, plain = batch(n, 2), paths(range(n)), streams(range(n))
    z = [path.increment(like, 0.5, 0.0), path(like), path.increment(like, 1.0, 0.5), path(like)]
    for mine in z[1::2]:
        assert torch.equal(mine, plain(like))
    assert normal(z[0])
    assert abs(float((z[0] * z[1]).mean())) < 5 / math.sqrt(2 * n)
    assert abs(float((z[2] * z[3]).mean())) < 5 / math.sqrt(2 * n)


def test_samplers_take_the_increment_of_a_path_and_plain_noise_of_anything_else():
    like, t, s = batch(2, 3), host(0.6), host(0.5)
    assert torch.equal(increment(paths([4, 5]), like, t, s), paths([4, 5]).increment(like, t, s))
    assert torch.equal(increment(streams([4, 5]), like, t, s), streams([4, 5])(like))
    assert torch.equal(increment(torch.ones_like, like, t, s), torch.ones_like(like))


@pytest.mark.parametrize(("t", "s"), [(1.1, 0.5), (0.5, -0.1), (float("nan"), 0.5)])
def test_times_outside_are_refused(t, s):
    with pytest.raises(ValueError, match=r"over times in \[0, 1\]; given t = "):
        paths([1]).increment(batch(1, 2), t, s)


def test_one_seed_a_sample():
    with pytest.raises(ValueError, match="2 noise streams for a batch of 3"):
        paths([1, 2]).increment(batch(3, 2), 0.5, 0.4)
