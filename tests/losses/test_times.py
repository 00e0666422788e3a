import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, cases, close, every_schedule

from reverie.losses import KnotTimes, LogitNormalTimes, LogNormalTimes, Times, UniformTimes
from reverie.schedules import VE, Cosine, Flow, Geometric, Shifted, Table

N = 4000
U = (torch.arange(N, dtype=DOUBLE) + 0.5) / N
"""Stratified: one value in each of N equal cells, so the times are the law's own quantiles."""


@pytest.mark.parametrize("times", **cases(Times))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_times_lie_above_zero_and_fall_with_u(schedule, times):
    u = torch.tensor([0.0, 1e-15, 0.1, 0.5, 0.9, 1 - 1e-12, 1 - 2**-53], dtype=DOUBLE)
    t = times(u, schedule)
    assert t.dtype == DOUBLE
    assert t.shape == u.shape
    assert (t > 0).all()
    assert (t <= 1).all()
    assert (t.diff() <= 0).all()
    for i in range(len(u)):
        assert close(times(u[i : i + 1], schedule)[0], t[i])


def test_uniform_times():
    t = UniformTimes(0.2, 0.7)(U, Flow())
    assert close((t - 0.2) / 0.5, 1 - U)
    assert UniformTimes(0.2, 0.7)(U[:1] * 0, Flow()) == 0.7
    assert (UniformTimes().low, UniformTimes().high) == (1e-5, 1)


def test_knots_are_each_as_likely():
    t = KnotTimes(8)(U, Flow())
    counts = torch.bincount((t * 8).round().long(), minlength=9)
    assert counts.tolist() == [0] + [N // 8] * 8
    assert close((t * 8).round(), t * 8, 1e-14)
    assert KnotTimes(8)(torch.tensor([0.0, 0.124, 0.126, 1.0], dtype=DOUBLE), Flow()).mul(8).tolist() == [8, 8, 7, 1]


@pytest.mark.parametrize("name", [name for name, schedule in SCHEDULES.items() if schedule.knots])
def test_the_knots_of_a_chain_are_its_own(name):
    chain = SCHEDULES[name]
    u = (torch.arange(chain.knots, dtype=DOUBLE) + 0.5) / chain.knots
    assert close(KnotTimes()(u, chain) * chain.knots, torch.arange(chain.knots, 0, -1).double(), 1e-9)
    assert torch.equal(KnotTimes()(u, chain), KnotTimes(chain.knots)(u, chain))
    for total in (chain.knots - 1, 2 * chain.knots):
        with pytest.raises(ValueError, match=f"is {total}, and the chain has {chain.knots} steps; make them equal"):
            KnotTimes(total)(u, chain)


def test_a_shifted_chain_keeps_its_knots_and_a_process_without_any_has_a_thousand():
    assert KnotTimes()(U, Shifted(Geometric(levels=5), 2.0)).unique().mul(5).tolist() == pytest.approx([1, 2, 3, 4, 5])
    for schedule in (Cosine(), Flow(), VE(), Shifted(Flow(), 3.0)):
        assert torch.equal(KnotTimes()(U, schedule), KnotTimes(1000)(U, schedule))
    assert KnotTimes()(U[:1], Table([0.3])) == 1


@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (0.5, 0.4)])
def test_log_normal_times_have_a_normal_log_sigma(mean, std):
    wide = VE(1e-6, 1e6)
    for schedule in (wide, Flow(), Cosine()):
        log_ratio = -schedule.log_snr(LogNormalTimes(mean, std)(U, schedule)) / 2
        assert close(torch.special.ndtr((log_ratio - mean) / std), 1 - U, 1e-8)
    assert LogNormalTimes() == LogNormalTimes(-1.2, 1.2)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.7, 0.4)])
def test_logit_normal_times_have_a_normal_logit(mean, std):
    t = LogitNormalTimes(mean, std)(U, Flow())
    assert close(torch.special.ndtr((t.logit() - mean) / std), 1 - U, 1e-9)
    assert LogitNormalTimes() == LogitNormalTimes(0.0, 1.0)


@pytest.mark.parametrize("times", **cases(Times))
def test_stratified_u_make_stratified_times(times):
    # Each of 8 strata of u makes times that lie apart from the next stratum's.
    g = torch.Generator().manual_seed(0)
    u = (torch.arange(8).repeat_interleave(5) + torch.rand(40, generator=g, dtype=DOUBLE)) / 8
    t = times(u, Flow()).reshape(8, 5)
    assert (t[1:].max(1).values <= t[:-1].min(1).values).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: UniformTimes(0.0),
        lambda: UniformTimes(0.5, 0.5),
        lambda: UniformTimes(0.5, 1.01),
        lambda: KnotTimes(0),
        lambda: LogNormalTimes(std=0.0),
        lambda: LogitNormalTimes(std=0.0),
        lambda: LogNormalTimes(std=math.nan),
    ],
)
def test_settings_that_make_no_times_are_refused(make):
    with pytest.raises(ValueError, match="needs"):
        make()
