"""The benchmark of emoji by their captions: what is asked for, what the judge looks at, what is said of it."""

import math

import numpy as np
import pytest

from benchmarks.emoji.asking import questions
from benchmarks.emoji.judging import plain, rate
from benchmarks.emoji.page import HALF, MOST, TENFOLD, table, wanted
from reverie.data import Examples, split

EMOJI, VARIANTS, STYLES = 40, 3, 2
EDGES, COLOURS, COUNTS = slice(0, 38), slice(38, 113), slice(113, 625)
DIFFERENT, SMALL = 625, slice(626, 818)


def emoji():
    """Every emoji in three tones and two styles, tones with captions of their own; 0 and 1 share a picture."""
    rows = [(i, v, s) for s in range(STYLES) for i in range(EMOJI) for v in range(VARIANTS)]
    items = np.random.default_rng(0).integers(0, 256, (len(rows), 3, 8, 8), np.uint8)
    items[rows.index((1, 2, 0))] = items[rows.index((0, 0, 1))]
    related = np.array([i for i, _, _ in rows], np.int64)
    return Examples(
        items,
        image=True,
        texts=tuple(f"face {i} tone {v}" for i, v, _ in rows),
        related=related,
        balanced=np.array([i * STYLES + s for i, _, s in rows], np.int64),
    )


def asked_for(seed):
    """Examples, their split, which emoji each of them shows, and what is asked for."""
    examples = emoji()
    parts = split(examples, 0.2, seed)
    return examples, parts, np.where(examples.related == 1, 0, examples.related), questions(examples, parts, 1000, seed)


@pytest.fixture(scope="module")
def asked():
    return asked_for(5)


@pytest.mark.parametrize("seed", range(8))
def test_no_emoji_is_both_learnt_from_and_asked_for(seed):
    _, parts, shown, found = asked_for(seed)
    seen, held_out, learnt = (set(shown[rows]) for rows in (found.seen, found.held_out, found.learnt))
    assert not seen & held_out
    assert not seen & learnt
    assert not held_out & learnt
    assert seen | held_out | learnt == set(shown)
    assert len(seen) == len(held_out) > 0
    assert held_out == set(shown[parts.validation])
    assert set(found.seen) | set(found.learnt) <= set(parts.train)


def test_captions_differ_and_every_emoji_has_its_turn_before_a_second_one(asked):
    examples, _, shown, found = asked
    for rows in (found.seen, found.held_out):
        captions = [examples.texts[row] for row in rows]
        assert len(set(captions)) == len(captions) == VARIANTS * len(np.unique(examples.related[rows]))
        count = len(set(shown[rows]))
        assert len(set(shown[rows[:count]])) == count
        assert len(set(shown[rows[count : 2 * count]])) == count


def test_the_judge_learns_from_one_variant_of_each_emoji_in_each_style(asked):
    examples, parts, shown, found = asked
    numbers = examples.balanced[found.learnt]
    assert len(set(numbers)) == len(numbers)
    rest = parts.train[~np.isin(shown[parts.train], shown[found.seen])]
    assert set(numbers) == set(examples.balanced[rest])


def test_no_more_are_asked_for_than_wished_and_the_seed_chooses(asked):
    examples, parts, _, found = asked
    few, again, other = (questions(examples, parts, 4, seed) for seed in (5, 5, 6))
    assert (len(few.seen), len(few.held_out)) == (4, 4)
    assert np.array_equal(few.seen, found.seen[:4])
    assert np.array_equal(few.seen, again.seen)
    assert not np.array_equal(few.seen, other.seen)


# ----------------------------------------------------------------------------------- judging


def test_the_error_is_that_of_a_mean():
    right = np.array([1.0] * 30 + [0.0] * 70)
    found = rate(right, 0.25)
    assert (found.share, found.chance) == (pytest.approx(0.3), 0.25)
    assert found.error == pytest.approx(right.std() / 10)
    assert rate(np.ones(9), 0.1).error == rate(np.zeros(9), 0.1).error == 0
    halves = rate(np.full(16, 0.5), 0.5)  # ties: each of the 16 is right or wrong by a coin
    assert halves.error == pytest.approx(0.5 / math.sqrt(16))


def flat(*colours):
    """Pictures (N, 3, 16, 16) of one colour each."""
    return np.array(colours, np.uint8)[:, :, None, None].repeat(16, 2).repeat(16, 3)


def test_every_picture_has_its_818_numbers_whatever_stands_beside():
    pictures = np.random.default_rng(1).integers(0, 256, (3, 3, 16, 16), np.uint8)
    found = plain(pictures)
    assert found.shape == (3, 818)
    for one, row in zip(pictures, found, strict=True):
        assert np.array_equal(plain(one[None])[0], row)
    assert np.allclose((found[:, COUNTS] ** 2).sum(1), 256)
    means = pictures.reshape(3, 3, 8, 2, 8, 2).mean((3, 5)).reshape(3, -1) / 255
    assert np.allclose(found[:, SMALL], means, atol=1e-6)


def test_colours_of_one_brightness_are_told_apart():
    red, green = plain(flat((90, 0, 0), (0, 90, 0)))
    assert np.array_equal(red[EDGES], green[EDGES])
    assert not red[EDGES].any()
    for part in (COLOURS, COUNTS, SMALL):
        assert not np.array_equal(red[part], green[part])
    assert np.allclose(red[COLOURS], [90 / 255] * 25 + [0] * 50)


def test_how_many_colours_there_are_is_counted():
    pictures = flat((0, 0, 0), (0, 0, 0), (0, 0, 0))
    pictures[1, :, 0, :4] = [[8, 8, 0, 0], [0, 8, 0, 8], [0, 0, 8, 8]]
    pictures[2, :, 0, :7] = np.arange(7)  # shades of less than 8 are one
    assert plain(pictures)[:, DIFFERENT].tolist() == [1, 5, 1]
    levels = 32 * np.stack(np.meshgrid(*[np.arange(8)] * 3), 0).reshape(1, 3, 16, 32).astype(np.uint8)
    (every,) = plain(levels)
    assert every[DIFFERENT] == 512
    assert np.array_equal(every[COUNTS], np.ones(512))


def test_edges_are_seen_along_both_sides():
    stripes = flat((0, 0, 0), (0, 0, 0))
    stripes[0, :, ::2] = 255
    stripes[1, :, :, ::2] = 255
    down, across = plain(stripes)[:, EDGES]
    assert np.allclose(down, [1] * 19 + [0] * 19)
    assert np.allclose(across, [0] * 19 + [1] * 19)


# -------------------------------------------------------------------------------------- page


def figure(share, chance=0.01, error=0.02):
    return {"share": share, "error": error, "chance": chance}


def sides(found, told=0.9):
    """Figures of both sides, samples found in these shares of the cases."""
    real = {"caption of 100": figure(0.4), "style as asked": figure(0.8, 0.5)}
    return {
        side: {"real": real, "samples": {"caption of 100": figure(share), "style as asked": figure(told, 0.5)}}
        for side, share in zip(("seen", "held_out"), found, strict=True)
    }


def test_the_table_has_samples_beside_real_pictures_in_percent():
    lines = table(sides((0.3, 0.125))).splitlines()
    assert [len(line.split("|")) for line in lines] == [7] * 6
    assert lines[2] == "| seen in training | caption of 100 | 30.0 ± 2.0 % | 40.0 ± 2.0 % | 1 % |"
    assert lines[4] == "| held out | caption of 100 | 12.5 ± 2.0 % | 40.0 ± 2.0 % | 1 % |"
    assert lines[5] == "| held out | style as asked | 90.0 ± 2.0 % | 80.0 ± 2.0 % | 50 % |"


def test_a_table_without_samples_leaves_their_cells_empty():
    alone = {"seen": {"real": {"caption of 100": figure(0.4)}}}
    assert table(alone).splitlines()[2:] == ["| seen in training | caption of 100 |  | 40.0 ± 2.0 % | 1 % |"]


@pytest.mark.parametrize(
    ("found", "told", "verdicts"),
    [
        ((HALF * 0.4, TENFOLD * 0.01), MOST, [True, True, True, True]),
        ((HALF * 0.4 - 0.01, TENFOLD * 0.01), MOST, [False, True, True, True]),
        ((HALF * 0.4, TENFOLD * 0.01 - 0.01), MOST, [True, True, False, True]),
        ((HALF * 0.4, TENFOLD * 0.01), MOST - 0.01, [True, False, True, False]),
    ],
)
def test_what_is_wanted_of_the_samples(found, told, verdicts):
    assert [so for _, so in wanted(sides(found, told))] == verdicts
