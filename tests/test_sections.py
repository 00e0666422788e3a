"""Sections of a chain: the published rule, index by index."""

import pytest
import torch
from helpers import DOUBLE, close, randn

from reverie.config import from_data, to_data
from reverie.exact import Gaussian
from reverie.grids import Grid, Knots
from reverie.grids.sections import Sections
from reverie.samplers import Ancestral
from reverie.sampling import generate
from reverie.schedules import Cosine, Table


def published(total, counts):
    """What guided-diffusion takes, in words: equal sections, and in each so many indices, first and last included."""
    taken, first = [], 0
    for i, count in enumerate(counts):
        size = total // len(counts) + (1 if i < total % len(counts) else 0)
        step = (size - 1) / (count - 1) if count > 1 else 1
        place = 0.0
        for _ in range(count):
            taken.append(first + round(place))
            place += step
        first += size
    return sorted(taken)


def indices(grid, schedule, total):
    times = grid(schedule)
    assert times[-1] == 0
    assert times.dtype == DOUBLE
    assert (times.diff() < 0).all()
    places = times[:-1] * total - 1
    assert close(places, places.round(), 1e-9)
    return places.round().long().flip(0).tolist()


@pytest.mark.parametrize("total", [100, 1000, 4000, 37])
@pytest.mark.parametrize("counts", [[1], [10], [10, 10, 10], [10, 8, 6], [1, 12, 1], [7, 5, 3, 2], [12, 9, 5]])
def test_sections_are_those_of_the_published_rule(counts, total):
    grid = Sections(",".join(map(str, counts)), total)
    found = indices(grid, Cosine(), total)
    assert found == published(total, counts)
    assert len(found) == sum(counts)


@pytest.mark.parametrize("counts", [[250], [90, 60, 60, 20, 20], [25], [50], [100], [10, 15, 20], [27]])
def test_those_of_the_published_commands(counts):
    found = indices(Sections(", ".join(map(str, counts))), Table(), 1000)
    assert found == published(1000, counts)


@pytest.mark.parametrize(("count", "total", "stride"), [(50, 1000, 20), (25, 1000, 40), (25, 4000, 160), (8, 37, 5)])
def test_strides(count, total, stride):
    found = indices(Sections(f"ddim{count}", total), Cosine(), total)
    assert found == list(range(0, total, stride))
    assert len(found) == count


def test_a_stride_that_does_not_exist():
    with pytest.raises(ValueError, match=r"no whole stride takes exactly 600 steps of a chain of 1000; ddim500 would"):
        Sections("ddim600", 1000)
    later = Sections("ddim600")
    with pytest.raises(ValueError, match="no whole stride takes exactly 600 steps of a chain of 1000"):
        later(Table())
    assert len(Sections("600")(Table())) == 601
    with pytest.raises(ValueError, match="no whole stride takes exactly 2000"):
        later.with_steps(2000)(Table())


def test_the_chain_is_the_schedules_own_unless_told():
    short = Table.linear(20, 0.005, 0.6)
    assert indices(Sections("4,2"), short, 20) == published(20, [4, 2])
    assert indices(Sections("4,2", 40), short, 40) == published(40, [4, 2])
    assert torch.equal(Sections("20")(short), Knots()(short))
    with pytest.raises(ValueError, match="a section of 20 of the 20 knots of the chain has no 50 steps"):
        Sections("50")(short)
    with pytest.raises(ValueError, match=r"a section of 10 of the 20 knots .* given sections='3,11'"):
        Sections("3,11", 20)


@pytest.mark.parametrize("text", ["", "ddim", "ten", "10,,5", "ddim10,5", "-3", "1.5", "0", "5,0", "ddim0"])
def test_text_that_says_nothing_is_refused(text):
    with pytest.raises(ValueError, match="Sections"):
        Sections(text)
    with pytest.raises(ValueError, match="total >= 1"):
        Sections("1", 0)


def test_a_single_number_needs_no_quotes():
    read = from_data(Grid, {"kind": "sections", "sections": 50}, "grid")
    assert torch.equal(read(Table()), Sections("50")(Table()))
    with pytest.raises(ValueError, match="given -3"):
        Sections(-3)


def test_another_number_of_steps():
    assert Sections("50").with_steps(7) == Sections("7")
    assert Sections("ddim50", 1000).with_steps(25) == Sections("ddim25", 1000)
    assert Sections("10,15,20").with_steps(90) == Sections("20,30,40")
    assert Sections("10,15,20").with_steps(2) == Sections("1,1")
    assert Sections("1,1,98").with_steps(10) == Sections("1,1,8")
    for steps in range(1, 60):
        assert len(Sections("10,15,20").with_steps(steps)(Table())) == steps + 1
    with pytest.raises(ValueError, match="at least 1 step"):
        Sections().with_steps(0)


def test_round_trip_and_sampling():
    for grid in (Sections(), Sections("ddim50"), Sections("10,15,20", 100)):
        assert from_data(Grid, to_data(grid), "grid") == grid
    f = Gaussian(Table(), torch.tensor([0.5, -0.5], dtype=DOUBLE), 0.5)
    assert generate(f, Ancestral(), Sections("10,15,20")(f.schedule), randn(4, 2)).isfinite().all()
