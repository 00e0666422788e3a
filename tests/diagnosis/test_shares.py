"""What each stage brings adds up, and the one that brings most is named only where that is no chance."""

import json
import math

import numpy as np
import pytest

from reverie.diagnosis import Ruler, Step, shares
from reverie.diagnosis.shares import FLOOR, Shares
from reverie.evaluation import Collection


def points(n, seed, scale=1.0):
    made = scale * np.random.default_rng(seed).standard_normal((n, 3))
    return Collection(made.astype(np.float32), False, "points")


@pytest.fixture(scope="module")
def ruler():
    return Ruler(points(300, 0))


def found(*steps):
    return Shares("KID", "inception", 50, tuple(Step(*step) for step in steps))


def test_they_add_up(ruler):
    made = shares(
        ruler,
        [
            (FLOOR, "held-out examples", lambda: points(60, 1)),
            ("autoencoder", "reconstructions", lambda: points(60, 1, 0.8)),
            ("upsampler", "enlarged", lambda: points(60, 2, 0.5)),
            ("base", "samples", lambda: points(60, 3, 0.1)),
        ],
    )
    assert [step.stage for step in made.steps] == [FLOOR, "autoencoder", "upsampler", "base"]
    assert [part.stage for part in made.parts] == ["autoencoder", "upsampler", "base"]
    assert made.steps[0].value + sum(part.value for part in made.parts) == pytest.approx(made.steps[-1].value)
    assert made.steps[0].value == ruler(points(60, 1))[0].value
    assert made.n == 60
    assert all(part.value > 0 for part in made.parts)
    assert len(made.rows()) == 4
    assert [part["stage"] for part in json.loads(json.dumps(made.line()))["shares"]] == [
        "autoencoder",
        "upsampler",
        "base",
    ]


def test_errors_are_those_of_differences():
    made = found((FLOOR, "held out", 0.1, 0.03), ("upsampler", "enlarged", 0.5, 0.04), ("base", "samples", 0.6, None))
    assert made.parts[0].error == pytest.approx(math.hypot(0.03, 0.04))
    assert made.parts[1].error is None
    assert made.worst == made.parts[0]
    assert "the upsampler brings 80% of the difference, 0.4 ± 0.05" in made.words
    assert "most by the upsampler" in made.seen


def test_chance_is_nobody_s_fault():
    made = found((FLOOR, "held out", 0.1, 0.03), ("upsampler", "enlarged", 0.15, 0.04), ("base", "samples", 0.16, 0.03))
    assert made.worst is None
    assert "no stage brings more than chance" in made.words
    assert "most by" not in made.seen


def test_a_stage_that_makes_good_leaves_all_to_the_one_before():
    made = found((FLOOR, "held out", 0.1, 0.01), ("autoencoder", "rebuilt", 0.5, 0.01), ("model", "samples", 0.4, 0.01))
    assert made.parts[1].value == pytest.approx(-0.1)
    assert "the autoencoder brings all of the difference" in made.words


def test_sets_that_cannot_be_compared(ruler):
    with pytest.raises(ValueError, match="the first set is the floor"):
        shares(ruler, [("base", "samples", lambda: points(60, 1))])
    with pytest.raises(ValueError, match="as many examples each; given 60 and 50 samples"):
        shares(ruler, [(FLOOR, "held out", lambda: points(60, 1)), ("base", "samples", lambda: points(50, 1))])
