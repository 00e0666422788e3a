import math

import pytest
import torch
from helpers import DOUBLE, close, every_schedule

from reverie.grids import Angle, checked_times
from reverie.schedules import VE, Cosine, LinearVP


def angles(schedule, times, std=1.0):
    return torch.atan2(schedule.sigma(times), std * schedule.alpha(times))


@pytest.mark.parametrize("schedule", **every_schedule)
def test_any_number_of_steps_on_any_schedule(schedule):
    for steps in (*range(1, 41), 100, 333, 1000):
        times = checked_times(Angle(steps)(schedule))
        assert len(times) == steps + 1
        assert float(times[0]) == 1
        assert float(times[-1]) == 0


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_angles_are_one_curve_for_all_steps(schedule):
    """theta_i / theta_0 = (1 - u)(1 - 0.15 u), u = (i - 0.4) / (N - 0.4)."""
    for steps in (4, 17, 200):
        theta = angles(schedule, Angle(steps, std=0.5)(schedule), 0.5)
        u = (torch.arange(1, steps + 1, dtype=DOUBLE) - 0.4) / (steps - 0.4)
        assert close(theta[1:], theta[0] * (1 - u) * (1 - 0.15 * u), 1e-9)


def test_the_spread_of_the_data_shifts_sigma_over_alpha():
    """From pure noise, data c times as wide are given c times the sigma / alpha."""
    a, b = Angle(12, std=0.5)(Cosine())[1:-1], Angle(12, std=1.5)(Cosine())[1:-1]
    assert close(3 * Cosine().sigma(a) / Cosine().alpha(a), Cosine().sigma(b) / Cosine().alpha(b))


def test_steps_approach_the_data_evenly_and_begin_with_a_short_one():
    theta = angles(VE(), Angle(1000)(VE()))
    steps = theta[:-1] - theta[1:]
    assert 0.5 < float(steps[0] / steps[1]) < 0.7
    assert close(steps[-1] / steps[-2], 1.0, 1e-3)
    assert float(steps[1:].max() / steps[1:].min()) < 1.4


def test_a_later_start_is_begun_at():
    times = Angle(7, start=0.4).with_steps(9)(LinearVP())
    assert float(times[0]) == pytest.approx(0.4, abs=0)
    assert len(times) == 10


@pytest.mark.parametrize("given", [{"steps": 0}, {"std": 0.0}, {"std": math.inf}, {"start": 0.0}, {"start": 1.5}])
def test_what_makes_no_sense_is_refused(given):
    with pytest.raises(ValueError, match="Angle needs"):
        Angle(**given)
