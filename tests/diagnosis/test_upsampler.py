"""An upsampler that copies its input agrees with it wholly, one that ignores it as with any other."""

import math

import pytest
import torch

from reverie.diagnosis import agreement, upsampler
from reverie.diagnosis.upsampler import levels_of
from reverie.image_conditions import LowResolution

N = 24
KEYS = [(0, i) for i in range(N)]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def widened(small):
    """Each number four times: the means of squares of it are `small` again."""
    return small.repeat_interleave(2, 2).repeat_interleave(2, 3)


def looked(draw, noise=0.5, n=N, keys=KEYS):
    return upsampler(draw, LowResolution(2, noise), widened(normal(n, 1, 4, 4)), keys[:n], 5)


def copied(shown):
    """The small picture that was enlarged, from what was told, wide again."""
    unit = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
    enlarged = LowResolution(2).enlarged(unit).flatten(1)
    small = torch.linalg.lstsq(enlarged.T, shown.image.flatten(1).T).solution.T
    return widened(small.reshape(-1, 1, 4, 4))


# --------------------------------------------------------------------------------------- agreement


def test_copies_agree_wholly():
    x = normal(10, 3, 4)
    found = agreement(x, x)
    assert found.own == pytest.approx(1)
    assert found.margin == found.own - found.shuffled > 1


def test_by_hand():
    """Four rows of two numbers, their means 0: the cosines are 1, -1, 0 and 1 / sqrt(2)."""
    a = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    b = torch.tensor([[2.0, 0.0], [3.0, 0.0], [-4.0, 0.0], [-1.0, -0.0]], dtype=torch.float64)
    b = b + torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    b = b - b.mean(0)
    u, v = (torch.nn.functional.normalize(m, dim=1) for m in (a, b))
    r = [[float(p @ q) for q in v] for p in u]
    found = agreement(a, b)
    assert found.own == pytest.approx(sum(r[i][i] for i in range(4)) / 4)
    assert found.shuffled == pytest.approx(sum(r[i][j] for i in range(4) for j in range(4) if i != j) / 12)
    each = torch.tensor([r[i][i] - sum(r[i][j] for j in range(4) if j != i) / 3 for i in range(4)])
    assert found.error == pytest.approx(float(each.std()) / 2, rel=1e-6)


def test_what_all_have_in_common_does_not_count():
    x, y = normal(12, 2, 3), normal(12, 2, 3, seed=1)
    before, after = agreement(x, y), agreement(7 * x + normal(2, 3, seed=2), y - 5)
    assert after.own == pytest.approx(before.own)
    assert after.margin == pytest.approx(before.margin)
    same = agreement(torch.zeros(5, 4), normal(5, 4))
    assert (same.own, same.margin, same.error) == (0, 0, 0)


def test_strangers_agree_by_chance_alone_whose_size_is_told():
    off = [agreement(normal(N, 16, seed=2 * i), normal(N, 16, seed=2 * i + 1)) for i in range(200)]
    assert max(abs(each.margin) / each.error for each in off) < 5
    ratios = torch.tensor([each.margin / each.error for each in off])
    assert float(ratios.mean()) == pytest.approx(0, abs=4 / math.sqrt(200))
    assert float(ratios.std()) == pytest.approx(1, abs=0.25)


def test_two_pictures_are_too_few():
    with pytest.raises(ValueError, match="at least 3 pictures; given 2"):
        agreement(normal(2, 4), normal(2, 4))


# --------------------------------------------------------------------------------------- upsamplers


def test_one_that_copies_its_input_has_correlation_1_at_every_level():
    found = looked(copied)
    assert (
        [each.level for each in found.levels] == [0, 0.125, 0.25, 0.375, 0.5] == list(levels_of(LowResolution(2, 0.5)))
    )
    assert all(each.made.own == pytest.approx(1) for each in found.levels)
    assert [each.verdict for each in found.levels] == ["follows it"] * 5
    assert not found.faulty
    assert "follows its small picture" in found.words
    for each in found.levels:  # white pictures of unit size and as much noise: cos(pi s / 2) is what is left
        assert each.true.own == pytest.approx(math.cos(math.pi / 2 * each.level), abs=0.12)
    assert found.levels[0].true.own == pytest.approx(1)


def test_one_that_ignores_its_input_has_as_much_for_any_other():
    found = looked(lambda shown: normal(*shown.image.shape, seed=9))
    first = found.levels[0].made
    assert abs(first.own - first.shuffled) < 4 * first.error
    assert found.ignores
    assert found.faulty
    assert "it ignores its small picture" in found.words
    assert f"{first.margin:.4g} ± " in found.words
    assert found.levels[0].verdict in found.rows()[0][1]


def test_one_that_follows_in_part_is_at_fault_and_ignores_nothing():
    found = looked(lambda shown: 0.35 * copied(shown) + widened(normal(N, 1, 4, 4, seed=9)))
    assert 0.2 < found.levels[0].made.own < 0.5
    assert found.faulty
    assert not found.ignores
    assert "in part" in found.words


def test_where_noise_has_left_nothing_nothing_is_asked():
    found = looked(lambda shown: normal(*shown.image.shape, seed=9), noise=1.0)
    assert found.levels[-1].verdict == "nothing left to use"
    assert found.levels[0].usable


def test_without_noise_in_training_there_is_one_level_and_none_is_told():
    told = []

    def draw(shown):
        told.append(shown.level)
        return copied(shown)

    assert [each.level for each in looked(draw, noise=0.0).levels] == [0]
    assert told == [None]


def test_levels_are_told_and_noise_is_the_sample_s_own():
    told = []

    def draw(shown):
        told.append(shown.level)
        return copied(shown)

    found = looked(draw)
    assert [float(level[0]) for level in told] == [0, 0.125, 0.25, 0.375, 0.5]
    assert [each.true for each in found.levels] == [each.true for each in looked(copied).levels]
    other = looked(copied, keys=[(1, i) for i in range(N)])
    assert other.levels[0].true == found.levels[0].true
    assert other.levels[1].true != found.levels[1].true
