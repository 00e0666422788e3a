"""Samples drawn in shares are those of the run; a curve's front is what nothing cheaper beats."""

import json
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from told import guided_by_text
from toys import trained

from reverie.evaluation.collection import Collection
from reverie.evaluation.curve import Curve, Point, measure, picture, planned
from reverie.evaluation.drawing import blocks, draw
from reverie.evaluation.evaluate import Reference, Settings
from reverie.evaluation.extractors import Pixels
from reverie.evaluation.extractors.base import Features
from reverie.evaluation.job import Job
from reverie.evaluation.metrics import from_names
from reverie.evaluation.numbers import Number
from reverie.evaluation.reading import of_run
from reverie.evaluation.remembered import folder, remembered
from reverie.evaluation.subject import Subject
from reverie.evaluation.team import Team, one_thread
from reverie.grids import Uniform
from reverie.guidance import ClassifierFreeGuide, ClassifierGuide, ClipGuide
from reverie.request import Request
from reverie.runs import load
from reverie.samplers import DDIM, Ancestral, Heun


@pytest.fixture(scope="module")
def run():
    return load(trained())


def subject(run, **settings):
    return Subject(run, **{"sampling": run.settings(), "n": 300, **settings})


# ---------------------------------------------------------------------------------------- samples


def test_what_is_drawn_in_shares_is_what_the_run_draws(run):
    with one_thread():
        whole = run.sample(300, seed=5).numpy()
    for threads in (1, 2):
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            made = subject(run, seed=5).draw()
        finally:
            torch.set_num_threads(before)
        assert np.array_equal(made.items, whole)
        assert made.labels.tolist() == [i % 10 for i in range(300)]


def test_two_processes_draw_the_samples_of_one(run, monkeypatch):
    labels, shares = tuple(i % 10 for i in range(600)), {}

    def drawn(team):
        return draw(run.denoiser, run.space, run.facts.shape, Request(tuple(labels), 2), run.settings(), team=team)

    whole = drawn(Team())
    monkeypatch.setattr(Team, "_joined", lambda self, mine, n, failed: shares.update({self.index: mine}) or mine)
    for index in (0, 1):
        drawn(Team(index, 2))
    parts = [shares[i % 2][i // 2] for i in range(len(shares[0]) + len(shares[1]))]
    assert len(parts) > 2
    assert np.array_equal(np.concatenate(parts), whole)


def test_the_protocol_of_samples_tells_how_to_draw_them(run):
    about = subject(run, seed=3, labels=("7", 2)).draw().about
    assert about["weights"] == "exponential, decay 0.995"
    assert about["sampler"]["kind"] == "adams"
    assert (about["grid"]["kind"], about["steps"], about["evaluations"]) == ("uniform", 3, 3)
    assert about["classes"] == ["7", "2"]
    assert (about["seed"], about["guidance"], about["quantization"]) == (
        3,
        run.recipe.sample.guidance,
        "rounded to 8 bits",
    )
    heun = replace(subject(run), sampling=run.settings(Heun(), grid=run.grid.with_steps(4)))
    assert heun.about()["evaluations"] == 7


def test_samples_of_no_class_have_no_label(run):
    assert subject(run, n=4, labels=(None, 3)).draw().labels is None


def test_samples_of_a_run_without_classes_are_led_to_those_of_the_reference():
    free, classifier = load(trained("labels=false")), load(trained("kind=classifier"))
    sampling = replace(free.settings(guidance=20.0), guide=ClassifierGuide(run=str(classifier.path)))
    with one_thread():
        some = Subject(free, sampling, 40, labels=("3", 4), seed=5)
        made = some.draw()
        assert np.array_equal(made.items, free.sample(40, ["3", 4], 5, sampling).numpy())
        assert (made.labels.tolist(), made.classes) == ([3, 4] * 20, classifier.classes)
        assert made.about["classes"] == ["3", "4"]
        real = of_run(free, 200).train
        threes = real.take(np.flatnonzero(real.labels == 3))
        for one, label, told in (
            (replace(some, labels=None), None, "all in turn"),
            (replace(some, labels=None).beside(threes), 3, "as often as in the reference"),
        ):
            made = one.draw()
            assert np.array_equal(made.items, free.sample(40, label, 5, sampling).numpy())
            assert made.about["classes"] == told
    with pytest.raises(ValueError, match="unknown label 'dog'"):
        Subject(free, sampling, 2, labels=("dog",))
    with pytest.raises(ValueError, match="was trained without labels"):
        Subject(free, free.settings(), 2, labels=(3,))


def test_samples_of_a_run_without_texts_are_led_to_captions_of_its_data(tmp_path):
    pair, free = guided_by_text(tmp_path)
    sampling = replace(free.settings(guidance=100.0), guide=ClipGuide(run=str(pair.path)))
    captions = ("", "a red tile", "the blue one")
    real = Collection(np.zeros((3, 3, 4, 4), np.uint8), True, "three", captions=captions)
    with one_thread():
        made = Subject(free, sampling, 5, seed=2).beside(real).draw()
        assert set(made.captions) == set(captions[1:])
        assert np.array_equal(made.items, free.sample(5, None, 2, sampling, prompt=made.captions).numpy())
    assert made.about["texts"] == "captions of the reference"
    with pytest.raises(ValueError, match="are asked for none here: texts are those"):
        Subject(free, sampling, 5).beside(replace(real, captions=())).draw()


@pytest.mark.parametrize(("n", "size"), [(10, 3), (9, 3), (1, 5), (0, 2)])
def test_blocks_cover_everything_once(n, size):
    assert [i for first, last in blocks(n, size) for i in range(first, last)] == list(range(n))


def test_fewer_than_two_samples_are_refused(run):
    with pytest.raises(ValueError, match="at least 2 samples"):
        subject(run, n=1)


# ------------------------------------------------------------------------------- kept features


def test_kept_features_are_the_same_bits_and_a_damaged_file_is_made_again():
    class Opened:
        digest, about = "abc", {"a": 1}

    real = Collection(np.zeros((3, 2), np.float32), False, "zeros")
    random = np.random.default_rng(0)
    given = [
        Features(random.standard_normal((3, 4)).astype(np.float32).astype(np.float64)),
        Features(random.standard_normal((3, 4)), random.random((3, 2))),
    ]
    for i, features in enumerate(given):
        calls = []

        def made(features=features, calls=calls):
            calls.append(1)
            return features

        Opened.digest = str(i)
        for _ in range(2):
            found = remembered(Pixels(), Opened(), real, Team(), torch.device("cpu"), made)
            assert np.array_equal(found.values, features.values)
            assert (found.probabilities is None) == (features.probabilities is None)
        assert len(calls) == 1
        path = next(p for p in folder().glob("*.safetensors"))
        path.write_bytes(path.read_bytes()[:-3] + b"abc")
        remembered(Pixels(), Opened(), real, Team(), torch.device("cpu"), made)
        assert len(calls) == 2
        path.unlink()


def test_features_without_weights_are_not_kept():
    class Opened:
        digest, about = "", {}

    real = Collection(np.zeros((3, 2), np.float32), False, "zeros")
    remembered(Pixels(), Opened(), real, Team(), torch.device("cpu"), lambda: Features(np.zeros((3, 1))))
    assert not folder().exists()


# ---------------------------------------------------------------------------------------- curves


def points(*values, better="lower"):
    numbers = [Number("kid", "KID", v, "pixels", better) for _, _, v in values]
    return tuple(
        Point("ddim", "uniform", False, n, n, s, number) for (n, s, _), number in zip(values, numbers, strict=True)
    )


def test_the_front_holds_what_nothing_cheaper_beats():
    made = points((5, 1.0, 9.0), (5, 2.0, 8.0), (10, 0.5, 8.5), (20, 4.0, 3.0), (40, 3.0, 3.0))
    curve = Curve({}, made)
    assert [p.number.value for p in curve.front("evaluations")] == [8.0, 3.0]
    assert [(p.seconds, p.number.value) for p in curve.front("seconds")] == [(0.5, 8.5), (2.0, 8.0), (3.0, 3.0)]
    for cost in ("evaluations", "seconds"):
        front = curve.front(cost)
        for point in made:
            beaten = any(
                getattr(p, cost) <= getattr(point, cost) and p.number.value <= point.number.value for p in front
            )
            assert beaten  # every point is on the front or no better than one that costs no more
    turned = Curve({}, points((5, 1.0, 0.2), (9, 2.0, 0.1), (10, 3.0, 0.4), better="higher"))
    assert [p.number.value for p in turned.front("evaluations")] == [0.2, 0.4]


def test_a_curve_measures_each_sampler_at_each_cost(run):
    asked = planned(run, [run.sampler, Heun(), DDIM()], [3, 5])
    assert [(s.sampler.kind, cost, tuned) for s, cost, tuned in asked] == [
        ("adams", 3, False), ("adams", 5, False), ("heun", 3, False), ("heun", 5, False), ("ddim", 3, False),
        ("ddim", 5, False),
    ]  # fmt: skip
    real = of_run(run, 200, 60)
    settings = Settings((Pixels(),), from_names("sliced_wasserstein"))
    reference = Reference(real.train, settings, real.held_out)
    found = list(measure(subject(run, n=60), reference, asked))
    assert [(p.sampler, p.evaluations, p.steps) for p in found][2:4] == [("heun", 3, 2), ("heun", 5, 3)]
    alone = reference.evaluate(replace(subject(run, n=60), sampling=asked[3][0]).draw())
    assert found[3].number == alone.numbers[0]
    curve = Curve({"samples": {"n": 60}, **reference.protocol}, tuple(found))
    assert curve.id == alone.id  # the same judge: its numbers can be put beside those of an evaluation
    data = json.loads(json.dumps(curve.to_data()))
    assert data["pareto"]["evaluations"] == [found.index(p) for p in curve.front("evaluations")]
    figure = picture(curve, "toy")
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "log"]


def test_a_curve_is_of_the_settings_asked_for_and_says_all_that_an_evaluation_says(run):
    job = Job(Settings((Pixels(),), from_names("sliced_wasserstein")), references=200)
    guide = ClassifierFreeGuide(rescale=0.5)
    asked = replace(run.settings(DDIM(), Uniform(3), guidance=3.0), guide=guide, threshold=0.9, clip=True)
    given = subject(run, n=60, sampling=asked)
    curve = job.curve(given, [DDIM()], [3], lambda what, share: None)
    alone = job.of_run(given, lambda what, share: None)
    assert [p.number for p in curve.points] == list(alone.numbers)
    said = {**alone.protocol["samples"], "source": "its own samples"}
    of_these = ("sampler", "grid", "steps", "evaluations", "digest", "shape", "image")
    assert curve.protocol["samples"] == {key: value for key, value in said.items() if key not in of_these}
    assert (said["guidance"], said["guide"]["rescale"], said["threshold"]) == (3.0, 0.5, 0.9)


def test_what_a_sampler_cannot_do_is_left_out_and_told(run):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asked = planned(run, [Heun(), Ancestral()], [1, 4])
    assert {s.sampler.kind for s, _, _ in asked} == {"heun", "ancestral"}
    assert all(math.isfinite(cost) and cost <= 4 for _, cost, _ in asked)
    assert all("is left out at" in str(w.message) for w in told)
    with pytest.raises(ValueError, match="give larger numbers"):
        planned(run, [], [3])
