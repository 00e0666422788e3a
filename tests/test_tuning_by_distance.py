"""Times of a consistency model, fitted to how far its samples are from real ones."""

import json

import pytest
import torch
from toys import cli, copied, trained

from reverie.pictures import read_metadata
from reverie.runs import load
from reverie.schedules import Cosine
from reverie.tuning import FILE, read
from reverie.tuning.by_distance import TRIES, _next


class Of:
    schedule = Cosine()


def test_each_time_is_where_the_distance_is_least_and_those_before_it_stay():
    before, best = torch.tensor([1.0, 0.6], dtype=torch.float64), 0.23  # on Cosine t is in proportion to the angle
    asked = []

    def measured(times):
        asked.append(times)
        return abs(float(times[2]) - best) + 0.1

    times, value = _next(Of, before, measured, TRIES)
    assert len(asked) == TRIES
    assert torch.equal(times[:2], before)
    assert times[3] == 0
    assert abs(float(times[2]) - best) < 0.6 * 0.96 * 0.6180339887**5  # what golden section leaves of the angle
    assert value == min(abs(float(each[2]) - best) + 0.1 for each in asked)
    assert len(_next(Of, before, measured, 1)[0]) == 4


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    out = tmp_path_factory.mktemp("student") / "s"
    words = ("train.steps=4", "train.batch=8", "loss.most=8", "loss.first=2")
    made = cli("distill", trained(), "--method", "consistency", "--steps", "1,2", "--out", out, "-n", "0", *words)
    assert made.code == 0, made
    return out


def test_a_consistency_model_is_tuned_and_samples_with_its_times_from_then_on(student, tmp_path):
    result = cli("tune", student, "--nfe", "1,3", "-n", "16", "--device", "cpu")
    assert result.code == 0, result
    (stored,) = read(student)
    assert stored.sampler.kind == "consistency"
    assert [c.steps for c in stored.counts] == [1, 3]
    times = [c.times for c in stored.counts]
    assert times[0] == (float(load(student).grid(load(student).schedule)[0]), 0.0)
    assert times[1][0] == times[0][0]
    assert "distance" in result.out
    made = cli("sample", student, "-n", "2", "--steps", "3", "--out", tmp_path / "a.png")
    assert made.code == 0, made
    assert read_metadata(tmp_path / "a.png")["sampling"]["grid"]["kind"] == "tuned"
    again = cli("tune", student, "--nfe", "2", "-n", "16", "--device", "cpu")
    assert again.code == 0, again
    assert [c.steps for c in read(student)[0].counts] == [1, 2, 3]
    assert json.loads((student / FILE).read_text())["format"] == 1


def test_a_model_of_a_flow_has_no_times_for_a_sampler_that_draws_noise(tmp_path):
    run = copied(tmp_path / "run")
    result = cli("tune", run, "--nfe", "2", "-n", "8", "--sampler", "consistency")
    assert result.code == 1
    assert "draws noise" in result.err
    assert not (run / FILE).exists()


def test_what_makes_one_number_of_steps_has_no_times_to_fit(tmp_path):
    out = tmp_path / "s"
    words = ("train.steps=2", "train.batch=8")
    made = cli(
        "distill", trained(), "--method", "distribution_matching", "--steps", "2", "--out", out, "-n", "0", *words
    )
    assert made.code == 0, made
    result = cli("tune", out, "--nfe", "1,2", "-n", "8")
    assert result.code == 1
    assert "own grid" in result.err
    assert not (out / FILE).exists()
