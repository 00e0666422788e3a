import pytest
import torch
from guided import TIMES, WithVariance
from helpers import DOUBLE, Stub, close, labelled, randn

from reverie.conditioning import Cond
from reverie.denoiser import Clipped
from reverie.guidance import Thresholded
from reverie.guidance.thresholded import quantile
from reverie.schedules import LinearVP

WIDE = randn(4, 3, 5, 5, seed=2) * torch.tensor([0.1, 1.0, 2.0, 8.0], dtype=DOUBLE)[:, None, None, None]


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.995, 1.0])
@pytest.mark.parametrize("length", [1, 2, 7, 75])
def test_the_quantile_is_torchs(share, length):
    values = randn(3, length, seed=length)
    assert close(quantile(values, share), torch.quantile(values, share, dim=1))


@pytest.mark.parametrize("percentile", [0.5, 0.9, 1.0])
def test_each_example_is_brought_back_by_its_own_quantile(percentile):
    f = Stub(LinearVP(), lambda x, t: WIDE)
    x = randn(4, 3, 5, 5)
    for t in (TIMES, TIMES[2]):
        q = Thresholded(f, percentile)(x, t)
        for i in range(4):
            s = max(1.0, float(torch.quantile(WIDE[i].abs().flatten(), percentile)))
            assert close(q.x0[i], WIDE[i].clamp(-s, s) / s)
        assert float(q.x0.abs().max()) <= 1
        assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, x)
    if percentile == 1:  # nothing is cut, only scaled
        assert close(q.x0[3], WIDE[3] / WIDE[3].abs().max())
    small = Stub(LinearVP(), lambda x, t: WIDE / 50)
    assert torch.equal(Thresholded(small, percentile)(x, t).x0, WIDE / 50)


def test_where_the_quantile_is_below_one_it_is_the_static_form():
    f = Stub(LinearVP(), lambda x, t: WIDE[:2])
    x = randn(2, 3, 5, 5)
    assert torch.equal(Thresholded(f, 0.1)(x, TIMES[0]).x0, Clipped(f)(x, TIMES[0]).x0)


def test_what_goes_through_and_what_is_refused():
    f = labelled(LinearVP())
    cond = Cond(label=torch.zeros(4, dtype=torch.int64))
    assert Thresholded(WithVariance(f))(randn(4, 2), TIMES, cond).var.eq(1).all()
    for wrong in (0.0, -0.1, 99.5):
        with pytest.raises(ValueError, match=r"such as 0\.995"):
            Thresholded(f, wrong)
