"""Times that were fitted, and what stands in for numbers of steps without times of their own."""

import math

import pytest
import torch
from helpers import DOUBLE, close, every_schedule, named

from reverie import config
from reverie.grids import Angle, Grid, Tuned
from reverie.schedules import VE, Cosine, Flow
from reverie.tensors import host

FIVE = (1.0, 0.8, 0.55, 0.3, 0.1, 0.0)
TWO = (1.0, 0.4, 0.0)


def angles(schedule, times):
    return torch.atan2(schedule.sigma(times), schedule.alpha(times))


def even(schedule, steps):
    """Times at equal distances in the angle."""
    top = angles(schedule, host([1.0]))
    theta = top * torch.linspace(1, 0, steps + 1, dtype=DOUBLE)
    times = schedule.time(-2 * theta[1:-1].tan().log())
    return (1.0, *times.tolist(), 0.0)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_fitted_numbers_of_steps_give_their_times_as_they_are(schedule):
    grid = Tuned(5, (FIVE, TWO))
    assert grid(schedule).tolist() == list(FIVE)
    assert grid.with_steps(2)(schedule).tolist() == list(TWO)
    assert grid.fitted == (2, 5)


@pytest.mark.parametrize("steps", [3, 4, 7, 11])
@pytest.mark.parametrize("schedule", **named(flow=Flow(), cosine=Cosine(), ve=VE()))
def test_grids_of_one_rule_are_continued_by_it(schedule, steps):
    grid = Tuned(steps, (even(schedule, 2), even(schedule, 5), even(schedule, 12)))
    assert close(grid(schedule), even(schedule, steps), 1e-9)


def test_between_two_numbers_the_nearer_counts_more():
    """theta at a knot that both curves have, weighted as 1 / N lies between 1 / M and 1 / M'."""
    four, eight, six = (1.0, 0.7, 0.5, 0.2, 0.0), (1.0, 0.9, 0.8, 0.6, 0.45, 0.35, 0.2, 0.1, 0.0), 6
    schedule = Flow()
    at_half = angles(schedule, host([0.5])), angles(schedule, host([0.45]))
    share = (1 / 4 - 1 / six) / (1 / 4 - 1 / 8)
    found = angles(schedule, Tuned(six, (four, eight))(schedule))[3]
    assert share == pytest.approx(2 / 3)
    assert close(found, (1 - share) * at_half[0][0] + share * at_half[1][0], 1e-12)


def test_more_steps_than_were_fitted_come_from_the_nearest_curve_and_the_generic_grid():
    """5 / N of the first: all of it at N = 5, nothing at infinity."""
    schedule, fitted = Flow(), angles(Flow(), host(FIVE))
    curve = torch.stack([fitted[:-1], (fitted[1:] + fitted[:-1]) / 2], 1).flatten()
    generic = angles(schedule, Angle(10)(schedule))
    assert close(angles(schedule, Tuned(10, (TWO, FIVE))(schedule))[:-1], (curve + generic[:-1]) / 2, 1e-12)
    for steps, tolerance in ((500, 0.02), (5000, 0.002)):
        off = angles(schedule, Tuned(steps, (FIVE,))(schedule)) - angles(schedule, Angle(steps)(schedule))
        assert off.abs().max() < tolerance


def test_fewer_steps_than_were_fitted_are_those_of_the_generic_grid():
    assert close(Tuned(4, (FIVE,))(Flow()), Angle(4)(Flow()), 1e-12)
    assert Tuned(1, (FIVE,))(Flow()).tolist() == [1.0, 0.0]
    low = Tuned(3, ((0.9, 0.6, 0.5, 0.2, 0.0),))(Flow())
    assert close(low, Angle(3, start=0.9)(Flow()), 1e-12)


def test_a_start_below_1_is_kept():
    grid = Tuned(3, ((0.9, 0.5, 0.0), (0.9, 0.7, 0.5, 0.2, 0.0)))
    assert float(grid(Flow())[0]) == 0.9
    assert float(grid.with_steps(40)(Cosine())[0]) == 0.9


def test_it_goes_through_a_file():
    grid = Tuned(7, (FIVE, TWO), "adams, guidance 2")
    assert config.from_data(Grid, config.to_data(grid), "grid") == grid
    assert grid.with_steps(9).origin == grid.origin


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ((0, (FIVE,)), "at least 1 step"),
        ((5, ()), "at least one number of steps"),
        ((5, (TWO, TWO)), "each once"),
        ((5, ((1.0, 0.5, 0.1),)), "end at 0; given ones that end at 0.1"),
        ((5, ((1.0, 0.5, 0.5, 0.0),)), "fall strictly"),
        ((5, ((1.2, 0.5, 0.0),)), "fall strictly within"),
        ((5, ((1.0, math.nan, 0.0),)), "fall strictly"),
        ((5, ((0.0,),)), "at least 2"),
    ],
)
def test_what_is_no_grid_is_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Tuned(*settings)
