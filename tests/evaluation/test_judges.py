"""Several extractors or metrics of one kind are kept apart, and each is judged as if it were alone."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from judged import Mean

from reverie import config
from reverie.cli.numbers import print_evaluation
from reverie.data import Digits
from reverie.data.points import Checkerboard
from reverie.evaluation.collection import Collection
from reverie.evaluation.evaluate import Reference, Settings, evaluate
from reverie.evaluation.extractors import Classifier, Extractor, Opened, Pixels, Values
from reverie.evaluation.metrics import Unfit, from_names, standard
from reverie.evaluation.metrics.label_accuracy import LabelAccuracy
from reverie.evaluation.metrics.precision_recall import Precision
from reverie.evaluation.numbers import distinct
from reverie.evaluation.reading import collected
from reverie.report.comparison import _numbers


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REVERIE_CACHE", str(tmp_path))


def pictures(n, seed):
    return Collection(np.random.default_rng(seed).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), True, "pictures")


def digits(start, stop):
    return collected(Digits().load(), np.arange(start, stop), "digits", {})


@dataclass(frozen=True)
class Networked(Extractor):
    """Pixels that say they come of a network."""

    kind = "weights"
    network: str
    side: int = 8

    def open(self, real, device="cpu"):
        opened = Pixels(self.side).open(real)
        opened.about["network"] = self.network
        return opened


DISTANCE = from_names("sliced_wasserstein")


def told(number):
    return number.value, number.error, number.sets, number.floor, number.floor_n


# -------------------------------------------------------------------------------------- one kind


def test_two_extractors_of_one_kind_have_the_numbers_that_each_has_alone():
    made, real = pictures(60, 1), pictures(90, 2)
    asked = Pixels(64), Pixels(2)
    both = evaluate(made, real, Settings(asked, DISTANCE))
    assert [n.extractor for n in both.numbers] == ["pixels", "pixels 2"]
    for number, extractor in zip(both.numbers, asked, strict=True):
        alone = evaluate(made, real, Settings((extractor,), DISTANCE)).numbers[0]
        assert told(number) == told(alone)
        assert both.number("sliced_wasserstein", number.extractor) is number
    assert both.numbers[0].floor != both.numbers[1].floor
    assert [part.get("name") for part in both.protocol["extractors"]] == [None, "pixels 2"]
    assert list(both.protocol["metrics"]) == ["pixels", "pixels 2"]


def test_two_metrics_of_one_kind_have_the_numbers_that_each_has_alone():
    made, real = pictures(60, 1), pictures(90, 2)
    asked = Precision(1), Precision(20)
    both = evaluate(made, real, Settings((Pixels(),), asked))
    assert [(n.name, n.title) for n in both.numbers] == [("precision", "precision"), ("precision 2", "precision 2")]
    for number, metric in zip(both.numbers, asked, strict=True):
        assert told(number) == told(evaluate(made, real, Settings((Pixels(),), (metric,))).numbers[0])
        assert both.number(number.name) is number
    assert both.numbers[0].floor != both.numbers[1].floor


def test_networks_of_one_kind_are_told_apart_by_their_names():
    asked = tuple(Networked(*one) for one in (("DINOv2",), ("CLIP",), ("CLIP", 4)))
    found = evaluate(pictures(60, 1), pictures(90, 2), Settings((*asked, Pixels()), DISTANCE))
    names = ["weights: DINOv2", "weights: CLIP", "weights: CLIP 2", "pixels"]
    assert [n.extractor for n in found.numbers] == names
    alone = evaluate(pictures(60, 1), pictures(90, 2), Settings(asked[:1], DISTANCE))
    assert alone.numbers[0].extractor == "weights"


def test_what_is_left_out_names_its_extractor():
    class Never(Precision):
        def check(self, made, real):
            raise Unfit("never")

    settings = Settings((Pixels(), Pixels(2)), (*DISTANCE, Never()))
    found = evaluate(pictures(60, 1), pictures(90, 2), settings)
    assert [(part.name, part.extractor) for part in found.left_out] == [
        ("precision", "pixels"), ("precision", "pixels 2"),
    ]  # fmt: skip


def test_a_table_and_weights_for_each_extractor_are_printed(capsys):
    print_evaluation(evaluate(pictures(60, 1), pictures(90, 2), Settings((Pixels(), Pixels(2)), DISTANCE)))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line in ("pixels", "pixels 2")] == ["pixels", "pixels 2"]
    a = Collection(np.random.default_rng(1).standard_normal((60, 3)), False, "a")
    found = evaluate(a, a, Settings((Values(),), DISTANCE))
    first, second = ({**found.protocol["extractors"][0], **new} for new in ({}, {"name": "values 2", "digest": "5eed"}))
    both = replace(
        found,
        numbers=(found.numbers[0], replace(found.numbers[0], extractor="values 2")),
        protocol={**found.protocol, "extractors": [first, second]},
    )
    print_evaluation(both)
    out = capsys.readouterr().out
    assert f"values (weights {first['digest']})" in out
    assert "values 2 (weights 5eed)" in out


def test_a_comparison_has_a_row_for_each_extractor():
    settings = Settings((Pixels(64), Pixels(2)), DISTANCE)
    found = [evaluate(pictures(60, seed), pictures(90, 2), settings) for seed in (1, 3)]
    rows = _numbers(found, ("a", "b")).rows
    assert ["(pixels)" in row[0] for row in rows] == [True, False]
    assert ["(pixels 2)" in row[0] for row in rows] == [False, True]
    assert rows[0][1:4] != rows[1][1:4]


def test_a_comparison_tells_all_floors():
    settings = Settings((Pixels(),), DISTANCE)
    floors = None, pictures(45, 4)
    one, other = (evaluate(pictures(60, 1), pictures(90, 2), settings, floor) for floor in floors)
    assert one.id == other.id
    assert one.numbers[0].floor != other.numbers[0].floor
    assert " or " in _numbers([one, other], ("a", "b")).rows[0][3]
    assert " or " not in _numbers([one, one], ("a", "b")).rows[0][3]


def test_names_that_come_again_are_numbered():
    assert distinct(["a", "b", "a", "a"]) == ("a", "b", "a 2", "a 3")
    assert distinct([]) == ()


def test_what_is_asked_for_twice_is_measured_once():
    metrics = from_names("sliced_wasserstein,mmd")
    twice = evaluate(pictures(60, 1), pictures(90, 2), Settings((Pixels(), Pixels()), metrics * 2))
    once = evaluate(pictures(60, 1), pictures(90, 2), Settings((Pixels(),), metrics))
    assert twice.numbers == once.numbers
    assert twice.protocol == once.protocol


# ----------------------------------------------------------------------------------- the protocol


def test_the_protocol_tells_the_settings_of_metrics_that_nobody_asked_for():
    real = digits(0, 200)
    found = evaluate(digits(200, 300), real, Settings((Pixels(),)))
    expected = {m.kind: config.to_data(m) for m in standard(learned=False, probabilities=False)}
    assert found.protocol["metrics"] == {"pixels": expected}
    assert evaluate(digits(200, 300), real, Settings((Pixels(),), tuple(standard(False, False)))).id == found.id


def test_the_protocol_tells_of_metrics_that_data_bring():
    board = collected((data := Checkerboard(200)).load(), np.arange(200), "checkerboard", {}, data=data)
    found = evaluate(board, board).protocol["metrics"]
    assert found["own"]["off_board"] == {"kind": "off_board"}
    assert set(found) == {"values", "own"}


def test_numbers_can_be_compared_whatever_the_floor():
    made, real = pictures(60, 1), pictures(90, 2)
    ids = {evaluate(made, real, Settings((Pixels(),), DISTANCE), floor).id for floor in (None, pictures(30, 3))}
    assert len(ids) == 1


# -------------------------------------------------------------------------------------- the floor


def test_what_was_learnt_from_the_reference_gives_no_floor():
    quick = Classifier(seen=1280)
    made, real, others = digits(1000, 1200), digits(0, 1000), digits(1200, 1400)
    settings = Settings((quick, Pixels()), (LabelAccuracy(), *DISTANCE))
    found = evaluate(made, real, settings)
    assert [found.number("label_accuracy").floor, found.number("sliced_wasserstein", "classifier").floor] == [None] * 2
    assert found.number("sliced_wasserstein", "pixels").floor is not None
    assert found.protocol["floor"]["source"].endswith("; none by classifier, learnt from it")
    assert "there is no floor" in found.number("label_accuracy").note
    apart = evaluate(made, real, settings, others)
    assert apart.number("label_accuracy").floor == evaluate(others, real, settings).number("label_accuracy").value


# -------------------------------------------------------------------------------------- the error


class Raw(Values):
    """The numbers as they are."""

    def open(self, real, device="cpu"):
        return _Raw(real.items.shape[1])


class _Raw(Opened):
    def both(self, items):
        return items.double(), None


@pytest.mark.parametrize("n", [5, 9, 10])
def test_the_jackknife_of_few_samples_leaves_out_one_at_a_time(n):
    """Of a mean it is s / sqrt(n), exactly."""
    x = np.random.default_rng(n).standard_normal((n, 2))
    made, real = (Collection(a, False, "normal") for a in (x, np.ones((20, 2))))
    number = Reference(real, Settings((Raw(),), (Mean(least=n - 1),))).evaluate(made).numbers[0]
    assert number.sets == ()
    assert number.error == pytest.approx(x[:, 0].std(ddof=1) / math.sqrt(n), rel=1e-12)
