import math

import pytest
import torch
from helpers import DOUBLE, close, randn

from reverie.tensors import count, generator, global_randomness, host, non_finite, right, streams


def test_right_broadcasts_from_the_left():
    like = torch.zeros(3, 3, 3)
    a = torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE)
    out = right(a, like)
    assert out.shape == (3, 1, 1)
    assert out.dtype == torch.float32
    assert torch.equal((out * torch.ones(3, 3, 3))[:, 0, 0], a.float())
    assert right(a[:1], like).shape == (1, 1, 1)
    assert right(a, torch.zeros(3)).shape == (3,)


def test_right_leaves_scalars_as_they_are():
    a = torch.tensor(1 / 3, dtype=DOUBLE)
    assert right(a, torch.zeros(3, 2)) is a


@pytest.mark.parametrize("shape", [(2,), (3, 1), (3, 3), (6,)])
def test_right_refuses_what_is_not_one_number_an_example(shape):
    with pytest.raises(ValueError, match=r"one number an example: expected shape \(\) or \(3,\)"):
        right(torch.zeros(shape), torch.zeros(3, 2))


def test_host_keeps_every_digit_of_a_number():
    assert float(host(0.3)) == 0.3
    assert float(host(1 / 3)) == 1 / 3
    assert host(torch.tensor(0.5)).dtype == DOUBLE
    assert host(1).dtype == DOUBLE


# ----------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_a_samples_noise_is_its_own_whatever_the_batch(batch):
    like = torch.zeros(64, 3, 2, dtype=DOUBLE)
    whole = streams(range(100, 164))
    first, second = whole(like), whole(like)
    assert not torch.equal(first, second)
    for start in range(0, 64, batch):
        part = streams(range(100, 164)[start : start + batch])
        for expected in (first, second):
            assert torch.equal(part(like[start : start + batch]), expected[start : start + batch])


def test_order_and_dtype_do_not_matter():
    seeds = list(range(20))
    like = torch.zeros(20, 5, dtype=DOUBLE)
    drawn = streams(seeds)(like)
    assert torch.equal(streams(seeds[::-1])(like), drawn.flip(0))
    assert torch.equal(streams(seeds)(like.float()), drawn.float())
    assert streams(seeds)(like.half()).dtype == torch.float16
    assert torch.equal(streams([(3, 1), (3, 2)])(like[:2])[1], streams([(3, 2)])(like[:1])[0])
    assert not torch.equal(streams([(3, 1)])(like[:1]), streams([(3, 2)])(like[:1]))
    assert streams([4, 5])(torch.zeros(2)).shape == (2,)


def test_streams_are_standard_normal_and_independent():
    n = 40_000
    z = streams(range(n))(torch.zeros(n, 2, dtype=DOUBLE))
    rank = torch.arange(n, dtype=DOUBLE)
    cdf = torch.special.ndtr(z.sort(0).values)
    off = torch.maximum(cdf - rank[:, None] / n, (rank[:, None] + 1) / n - cdf).max()
    assert off < math.sqrt(math.log(4 / 1e-6) / (2 * n))  # Massart (1990): false alarms below 1e-6
    # A correlation of independent columns, and of neighbouring seeds, has standard deviation n^-1/2.
    assert abs(float((z[:, 0] * z[:, 1]).mean())) < 5 / math.sqrt(n)
    assert abs(float((z[1:, 0] * z[:-1, 0]).mean())) < 5 / math.sqrt(n)


def test_one_seed_a_sample():
    with pytest.raises(ValueError, match="2 noise streams for a batch of 3"):
        streams([1, 2])(torch.zeros(3, 2))


# -------------------------------------------------------------------------------- generators


def test_generators_depend_on_the_whole_key():
    drawn = {
        key: float(torch.rand((), generator=generator(*key), dtype=DOUBLE)) for key in [(0, 0), (1, 1), (0, 1), (1, 0)]
    }
    assert len(set(drawn.values())) == 4
    assert drawn[1, 0] == float(torch.rand((), generator=generator(1, 0), dtype=DOUBLE))


def test_global_randomness_is_seeded_inside_and_untouched_outside():
    before = torch.get_rng_state()
    with global_randomness(3, 4):
        first = torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)
    with global_randomness(3, 4):
        assert torch.equal(torch.rand(5), first)
    with global_randomness(4, 3):
        assert not torch.equal(torch.rand(5), first)


def test_non_finite():
    assert non_finite(torch.zeros(3)) == ""
    assert non_finite(torch.tensor([math.nan, 0.0])) == "1 nan of 2 values"
    assert non_finite(torch.tensor([[-math.inf, 0.0], [math.inf, 1.0]])) == "2 infinite of 4 values"
    assert count((2, 3, 4)) == 24
    assert count(()) == 1


def test_helpers_close_is_strict():
    x = randn(3)
    assert close(x, x)
    assert not close(x, x + 1e-9)
    assert not close(x, torch.full((3,), math.nan))
    assert not close(x, x[:2].repeat(3)[:1].expand(1))
