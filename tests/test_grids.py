import math

import numpy as np
import pytest
import torch
from helpers import DOUBLE, cases, close, every_schedule, gaussian, randn

from reverie.grids import Grid, Karras, Knots, LogSNR, Sections, Uniform, checked_times
from reverie.samplers import DDIM, Ancestral
from reverie.sampling import generate, prior
from reverie.schedules import VE, Cosine, Flow, Geometric, LinearVP, Table
from reverie.tensors import host


def ratio(schedule, times):
    """sigma / alpha."""
    return (-schedule.log_snr(times) / 2).exp()


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 1000])
@pytest.mark.parametrize("grid", **cases(Grid))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_grids_fall_strictly_to_exactly_zero_and_can_be_sampled(schedule, grid, steps):
    if isinstance(grid, Knots | Sections) and steps > (schedule.knots or 1000):
        steps = schedule.knots or 1000
    times = grid.with_steps(steps)(schedule)
    assert times.dtype == DOUBLE
    assert times.shape == (steps + 1,)
    assert times[-1] == 0
    assert times[0] <= 1
    assert (times.diff() < 0).all()
    assert checked_times(times) is not None
    if steps <= 10:
        f, like = gaussian(schedule), torch.zeros(2, 3, dtype=DOUBLE)
        x = prior(schedule, times[0], like, lambda like: randn(*like.shape))
        for sampler in (DDIM(), Ancestral(1.0)):
            assert generate(f, sampler, times, x).isfinite().all()


@pytest.mark.parametrize("grid", **cases(Grid))
def test_with_steps_leaves_the_grid_alone(grid):
    before = grid(Cosine())
    assert len(grid.with_steps(7)(Cosine())) == 8
    assert torch.equal(grid(Cosine()), before)
    with pytest.raises(ValueError, match="at least 1 step"):
        grid.with_steps(0)


def test_uniform():
    assert close(Uniform(4)(Flow()), torch.tensor([1, 0.75, 0.5, 0.25, 0]).double(), 1e-15)
    assert close(Uniform(4, 0.8)(Flow()), torch.tensor([0.8, 0.6, 0.4, 0.2, 0], dtype=DOUBLE), 1e-15)
    assert Uniform(7, 0.8).with_steps(3) == Uniform(3, 0.8)


@pytest.mark.parametrize(
    ("steps", "low", "high", "rho"), [(18, 0.002, 80.0, 7.0), (5, 0.05, 9.0, 3.0), (2, 0.1, 1.0, 1.0)]
)
def test_karras_is_eq_5(steps, low, high, rho):
    grid = Karras(steps, low, high, rho)
    sigma = [
        (high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho for i in range(steps)
    ]
    for schedule in (VE(), Flow(), Cosine()):
        assert close(
            (ratio(schedule, grid(schedule)[:-1]) / torch.tensor(sigma, dtype=DOUBLE)).log(), [0.0] * steps, 1e-10
        )
    assert Karras() == Karras(18, 0.002, 80.0, 7.0)
    assert grid.with_steps(9) == Karras(9, low, high, rho)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_log_snr_grid_is_equidistant(schedule):
    grid = LogSNR(20, 0.01, 50.0)
    log_snr = schedule.log_snr(grid(schedule)[:-1])
    assert close(log_snr.diff(), torch.full((19,), float(log_snr[-1] - log_snr[0]) / 19, dtype=DOUBLE), 1e-9)
    assert close(log_snr[-1], -2 * math.log(0.01), 1e-9)
    assert close(log_snr[0], max(-2 * math.log(50), float(schedule.log_snr(host(1.0)))), 1e-9)
    assert LogSNR() == LogSNR(50, 0.002, 80.0)
    assert grid.with_steps(3) == LogSNR(3, 0.01, 50.0)


@pytest.mark.parametrize("grid", [Karras(9, 0.01, 500.0), LogSNR(9, 0.01, 500.0)])
def test_grids_start_no_higher_than_the_schedule_reaches(grid):
    schedule = VE(0.002, 40.0)
    assert close(grid(schedule)[0], 1.0, 1e-12)
    assert close(ratio(schedule, grid(schedule)[0]), 40.0, 1e-10)
    assert close(ratio(Cosine(), grid(Cosine())[0]), 500.0, 1e-8)


@pytest.mark.parametrize("grid", [Karras(9, 45.0, 80.0), LogSNR(9, 45.0, 80.0), Karras(9, 40.0, 80.0)])
def test_grids_that_end_above_where_the_schedule_starts_are_refused(grid):
    with pytest.raises(ValueError, match=r"starts at sigma / alpha = 40 and ends at 4.*VE reaches 40"):
        grid(VE(0.002, 40.0))


# ------------------------------------------------------------------------------------- knots


@pytest.mark.parametrize("steps", [1, 10, 50, 300, 333, 999, 1000])
def test_knots_are_diffusers_trailing_spacing(steps):
    index = np.round(np.arange(1000, 0, -1000 / steps)) - 1
    times = Knots().with_steps(steps)(Table())
    assert close(times[:-1] * 1000 - 1, torch.as_tensor(index.copy()), 1e-9)


@pytest.mark.parametrize("steps", [1, 10, 50, 250, 1000])
def test_knots_are_diffusers_leading_spacing(steps):
    stride = 1000 // steps
    index = (np.arange(0, steps) * stride).round()[::-1]
    times = Knots(1000, stride, start=1000 - stride + 1)(Table())
    assert close(times[:-1] * 1000 - 1, torch.as_tensor(index.copy()), 1e-9)


def test_knots_by_hand():
    assert close(Knots(10, 3)(Table()) * 10, torch.tensor([10, 7, 4, 1, 0]), 1e-14)
    assert close(Knots(10, 4, 9)(Table()) * 10, torch.tensor([9, 5, 1, 0]), 1e-14)
    assert close(Knots(10, 20)(Table()) * 10, torch.tensor([10, 0]), 1e-14)
    assert close(Knots(10, 1, 1)(Table()) * 10, torch.tensor([1, 0]), 1e-14)
    assert len(Knots(1000, 1000 / 3)(Table())) == 4
    assert torch.equal(Knots(10, 1, 6).with_steps(3)(Table()), Knots(10, 2.0, 6)(Table()))
    assert Knots(10, 5.0, 6).with_steps(3) == Knots(10, 1, 6, steps=3)


@pytest.mark.parametrize("total", [7, 10, 50])
@pytest.mark.parametrize("stride", [1.0, 1.07, 1.3, 1.5, 2.5, 3.9])
def test_knots_fall_strictly_for_any_stride(total, stride):
    times = Knots(total, stride)(Table())
    assert (times.diff() < 0).all()
    assert close((times * total).round(), times * total, 1e-12)


def test_knots_has_no_more_steps_than_knots():
    with pytest.raises(ValueError, match="a chain of 10 knots has no 11 steps; at most 10"):
        Knots(10).with_steps(11)
    assert len(Knots(10).with_steps(10)(Table())) == 11
    with pytest.raises(ValueError, match="chain of 4 knots"):
        Knots(10, start=4).with_steps(5)


def test_knots_of_the_schedules_own_number():
    assert close(Knots()(Geometric(levels=40)), torch.linspace(1, 0, 41, dtype=DOUBLE), 1e-14)
    assert torch.equal(Knots()(Table()), Knots(1000)(Table()))
    assert torch.equal(Knots()(Cosine()), Knots(1000)(Table()))
    assert torch.equal(Knots(stride=3)(Table.linear(10)), Knots(10, 3)(Table()))
    assert torch.equal(Knots(start=9).with_steps(3)(Table.linear(10)), Knots(10, 3, 9)(Table()))
    assert torch.equal(Knots(20)(Table.linear(10)), Knots(20)(Table()))
    with pytest.raises(ValueError, match=r"Table has 10 knots, and grid\.start is 11; at most 10"):
        Knots(start=11)(Table.linear(10))
    with pytest.raises(ValueError, match="a chain of 10 knots has no 11 steps; at most 10"):
        Knots().with_steps(11)(Table.linear(10))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(0),
        lambda: Uniform(start=0.0),
        lambda: Uniform(start=1.01),
        lambda: LogSNR(0),
        lambda: LogSNR(low=0.0),
        lambda: LogSNR(low=80.0),
        lambda: Karras(0),
        lambda: Karras(low=0.0),
        lambda: Karras(low=80.0),
        lambda: Karras(rho=0.0),
        lambda: Knots(0),
        lambda: Knots(stride=0.99),
        lambda: Knots(stride=math.nan),
        lambda: Knots(start=0),
        lambda: Knots(None, start=0),
        lambda: Knots(steps=0),
        lambda: Knots(stride=2, steps=5),
        lambda: Knots(10, start=11),
    ],
)
def test_settings_that_make_no_grid_are_refused(make):
    with pytest.raises(ValueError, match="needs"):
        make()


@pytest.mark.parametrize(
    "times",
    [[0.5], [], [[0.5, 0.0]], 0.5, [0.5, 0.5, 0.0], [0.2, 0.5], [1.01, 0.0], [0.5, -0.01], [0.5, math.nan]],
)
def test_times_that_cannot_be_followed_are_refused(times):
    with pytest.raises(ValueError, match="times must"):
        checked_times(torch.tensor(times))


def test_times_are_shown_in_the_message():
    with pytest.raises(ValueError, match=r"given 0\.5, 0\.6$"):
        checked_times(torch.tensor([0.5, 0.6]))
    with pytest.raises(ValueError, match=r"\.\.\.$"):
        checked_times(torch.linspace(0, 1, 20))
    assert checked_times(torch.tensor([1.0, 0.0])).dtype == DOUBLE


def test_grids_serve_any_schedule_by_its_log_snr():
    for schedule in (LinearVP(), Flow(), Table()):
        assert close(
            ratio(schedule, Karras(5, 0.02, 30.0)(schedule)[:-1]), ratio(VE(), Karras(5, 0.02, 30.0)(VE())[:-1]), 1e-8
        )
