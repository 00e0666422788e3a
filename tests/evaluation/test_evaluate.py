"""An evaluation is a function of samples, reference and protocol; errors, floors and refusals are what they say."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from judged import Mean
from toys import begun

from reverie import config
from reverie.data import Digits, resolve
from reverie.data.points import Checkerboard
from reverie.evaluation.collection import Collection
from reverie.evaluation.evaluate import Reference, Settings, _order, evaluate
from reverie.evaluation.extractors import Pixels, Values
from reverie.evaluation.metrics import Metric, from_names
from reverie.evaluation.numbers import Evaluation, Number, protocol_id, read
from reverie.evaluation.own import OwnDistance
from reverie.evaluation.reading import Picture, check_picture, collected, of_run
from reverie.evaluation.reading import read as read_collection
from reverie.files import write_json


def normal(n, seed, mean=0.0, width=4, source="normal numbers"):
    random = np.random.default_rng(seed)
    return Collection((random.standard_normal((n, width)) + mean).astype(np.float32), False, source)


def pictures(n, seed, shape=(1, 8, 8), source="pictures"):
    return Collection(np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8), True, source)


VALUES = Settings((Values(),), from_names("sliced_wasserstein,mmd,modes"))


# ------------------------------------------------------------------------------------ the numbers


def test_the_same_evaluation_twice_is_the_same_to_the_last_digit():
    made, real = normal(200, 1), normal(300, 2)
    first, second = (evaluate(made, real, VALUES) for _ in range(2))
    assert [n.__dict__ for n in first.numbers] == [n.__dict__ for n in second.numbers]
    assert first.protocol == second.protocol
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert evaluate(made, real, VALUES).numbers == first.numbers
    finally:
        torch.set_num_threads(before)


def test_the_error_of_a_mean_is_that_of_statistics():
    """s / sqrt(sets) over sets of n / sets estimates sigma / sqrt(n); over 200 evaluations its square is unbiased.

    The mean of 200 squares of 5 degrees of freedom scatters by sqrt(2 / 5 / 200); 5 of these have a
    false-alarm rate below 1e-5.
    """
    n, sets = 120, 6
    real = normal(10, 0)
    settings = Settings((Values(),), (Mean(),), sets)
    reference = Reference(real, settings)
    scale = float(real.items[:, 0].astype(np.float64).std())
    squares = [reference.evaluate(normal(n, seed + 100)).numbers[0].error ** 2 * n * scale**2 for seed in range(200)]
    assert np.mean(squares) == pytest.approx(1.0, abs=5 * math.sqrt(2 / (sets - 1) / 200))


def test_the_jackknife_of_a_mean_is_its_textbook_error():
    """Leaving one of ten equal groups out: sqrt(9 / 10 sum (m_i - m)^2) = s_groups / sqrt(10), exactly."""
    made = normal(100, 3)
    number = Reference(normal(50, 4), Settings((Values(),), (Mean(least=60),))).evaluate(made).numbers[0]
    assert number.sets == ()
    groups = Reference(normal(50, 4), Settings((Values(),), (Mean(),), sets=10)).evaluate(made).numbers[0]
    assert number.error == pytest.approx(groups.error, rel=1e-10)


def test_sets_are_disjoint_parts_of_all_samples():
    made = normal(101, 5)
    number = Reference(normal(50, 4), Settings((Values(),), (Mean(),), sets=4)).evaluate(made).numbers[0]
    sizes = [26, 25, 25, 25]
    assert sum(s * n for s, n in zip(number.sets, sizes, strict=True)) / 101 == pytest.approx(number.value, abs=1e-12)


def test_without_enough_samples_there_is_no_error_and_with_fewer_still_no_number():
    made, real = normal(20, 6), normal(50, 7)
    both = Settings((Values(),), (Mean(least=20), Mean(least=30)))
    found = evaluate(made, real, both)
    assert found.numbers[0].error is None
    assert found.left_out[0].why == "needs 30"
    with pytest.raises(ValueError, match="nothing can be measured of these samples: mean by values: needs 30"):
        evaluate(made, real, replace(both, metrics=(Mean(least=30),)))


def test_the_floor_is_of_other_real_examples_and_no_more_than_samples():
    real, others = normal(300, 1), normal(150, 2)
    settings = Settings((Values(),), from_names("sliced_wasserstein"))
    reference = Reference(real, settings, others)
    few, many = (reference.evaluate(normal(n, 3)).numbers[0] for n in (100, 200))
    assert (few.floor_n, many.floor_n) == (100, 150)
    direct = Reference(real, settings).evaluate(others).numbers[0]
    assert many.floor == pytest.approx(direct.value, rel=1e-12)
    halves = Reference(real, settings).evaluate(normal(200, 3))
    assert halves.numbers[0].floor_n == 150
    assert halves.protocol["floor"] == {"source": "the reference, one half beside the other"}


def test_beside_a_floor_of_fewer_stands_the_number_of_as_many_samples():
    real, others, settings = normal(300, 1), normal(80, 2), Settings((Values(),), from_names("sliced_wasserstein"))
    reference, made = Reference(real, settings, others), normal(200, 3)
    number = reference.evaluate(made).numbers[0]
    rows = np.sort(_order(200)[:80])
    assert number.floor_n == 80
    assert number.matched == reference.evaluate(made.take(rows)).numbers[0].value != number.value
    assert reference.evaluate(normal(80, 3)).numbers[0].matched is None


def test_samples_of_the_law_reach_the_floor_and_shifted_ones_do_not():
    real, others, settings = normal(400, 1), normal(400, 2), Settings((Values(),), from_names("sliced_wasserstein,mmd"))
    reference = Reference(real, settings, others)
    good, bad = (reference.evaluate(normal(400, 3, mean)) for mean in (0.0, 0.5))
    for name in ("sliced_wasserstein", "mmd"):
        assert abs(good.number(name).value - good.number(name).floor) < 0.05
        assert bad.number(name).value > good.number(name).value + 5 * bad.number(name).error


def test_a_kind_of_data_brings_its_own_numbers():
    board = collected((data := Checkerboard(400)).load(), np.arange(400), "checkerboard", {}, data=data)
    inside, outside = (replace(board, items=board.items + shift) for shift in ([2.0, 0.0], [1.0, 0.0]))
    for made, share in ((board, 0.0), (inside, 0.5), (outside, 1.0)):
        number = evaluate(made, board).number("off_board", "own")
        assert number.value == pytest.approx(share, abs=0.1 if share == 0.5 else 0.0)
        assert number.floor == 0.0
        assert (number.title, number.unit) == ("off the dark squares", "%")
    roll = resolve("swissroll")
    found = collected(roll.load(), np.arange(500), "roll", {}, data=roll)
    distance = evaluate(found, found).number("off_roll")
    assert distance.value == pytest.approx(roll.noise, rel=0.2)  # off a line, noise has one dimension
    assert isinstance(OwnDistance(roll.distances()[0]), Metric)


def test_labels_of_another_order_are_the_same_classes():
    digits = Digits().load()
    real = collected(digits, np.arange(600), "digits", {})
    order = tuple(reversed(real.classes))
    turned = replace(real, labels=9 - real.labels, classes=order)
    settings = Settings((Pixels(),), from_names("modes,mode_balance"))
    assert evaluate(turned, real, settings).numbers == evaluate(real, real, settings).numbers


# ----------------------------------------------------------------------------------- the protocol


def test_the_protocol_names_all_that_a_number_depends_on():
    made, real = normal(60, 1, source="mine"), normal(90, 2, source="theirs")
    found = evaluate(made, real, VALUES)
    protocol = found.protocol
    assert protocol["samples"] == {
        "source": "mine", "n": 60, "shape": [4], "image": False, "digest": made.digest,
    }  # fmt: skip
    assert protocol["reference"]["n"] == 90
    assert protocol["reference"]["augmented"] is False
    assert protocol["extractors"][0]["kind"] == "values"
    assert protocol["metrics"] == {"values": {m.kind: config.to_data(m) for m in VALUES.metrics}}
    assert protocol["sets"] == 3


def test_only_what_was_judged_may_differ_between_evaluations_of_one_id():
    real, other = normal(90, 2), normal(90, 3)
    found = evaluate(normal(60, 1), real, VALUES)
    assert found.id == evaluate(normal(60, 4), real, VALUES).id
    assert found.id != evaluate(normal(60, 1), other, VALUES).id
    assert found.id != evaluate(normal(61, 1), real, VALUES).id
    assert found.id != evaluate(normal(60, 1), real, replace(VALUES, sets=4)).id
    assert found.id != evaluate(normal(60, 1), real, replace(VALUES, metrics=VALUES.metrics[:2])).id
    assert found.id == evaluate(normal(60, 1), real, VALUES, other).id  # a floor changes no value
    assert found.id == protocol_id(found.protocol)
    assert found.id == evaluate(normal(60, 1), replace(real, source="the same, elsewhere"), VALUES).id


def test_a_file_gives_back_what_was_written(tmp_path):
    found = evaluate(normal(60, 1), normal(90, 2), replace(VALUES, metrics=(*VALUES.metrics, *from_names("fid"))))
    write_json(tmp_path / "found.json", found.to_data())
    assert read(tmp_path / "found.json") == found
    assert json.loads((tmp_path / "found.json").read_text())["id"] == found.id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "table"),
        ('{"numbers": []}', "no format number"),
        ('{"format": 99}', "upgrade"),
        ('{"format": 1, "numbers": [{"name": 3}]}', "damaged"),
        ('{"format": 1, "numbers": 7}', "damaged"),
        ('{"format": 1', "."),
    ],
)
def test_a_damaged_file_is_named(text, said, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "x.json")


def test_a_number_is_found_by_name_and_extractor():
    found = Evaluation({}, (Number("kid", "KID", 1.0, "a"), Number("kid", "KID", 2.0, "b")))
    assert (found.number("kid").value, found.number("kid", "b").value) == (1.0, 2.0)
    with pytest.raises(KeyError, match="fid by a"):
        found.number("fid", "a")


# ------------------------------------------------------------------------------------- bad input


def test_training_batches_are_no_reference(tmp_path):
    run, examples = begun(tmp_path / "run")
    from reverie.training import Trainer

    trainer = Trainer(run, examples)
    trainer._set_up()
    trainer.feed.close()
    for loader in (trainer.batches, trainer.feed, iter([examples.items]), torch.utils.data.DataLoader(examples.items)):
        with pytest.raises(ValueError, match="training batches, augmented"):
            Reference(loader)
    with pytest.raises(ValueError, match=r"a reference is a Collection of real examples, .*; given ndarray"):
        Reference(examples.items)


@pytest.mark.parametrize(
    ("made", "real", "said"),
    [
        (
            pictures(9, 0, (1, 8, 8)),
            pictures(9, 1, (1, 16, 16)),
            "images of 1x8x8.*1x16x16; read both alike.*--size 16",
        ),
        (pictures(9, 0, (3, 8, 8)), pictures(9, 1, (1, 8, 8)), "--channels 1"),
        (pictures(9, 0, (3, 8, 8)), pictures(9, 1, (1, 8, 12)), "--size 8,12 --channels 1"),
        (normal(9, 0), pictures(9, 1), "arrays of 4, and the reference.*images of 1x8x8"),
        (normal(9, 0, width=3), normal(9, 1), "arrays of 3.*arrays of 4"),
        (normal(1, 0), normal(9, 1), "at least 2 samples; given 1"),
        (normal(9, 0), normal(1, 1), "at least 2 real examples"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(made, real, said):
    with pytest.raises(ValueError, match=said):
        evaluate(made, real)


def test_too_few_sets_tell_no_error():
    with pytest.raises(ValueError, match="at least 3 disjoint sets of samples; given sets=2"):
        Settings(sets=2)


# ---------------------------------------------------------------------------------------- reading


def test_real_examples_of_a_run_are_those_of_its_split_unmirrored(tmp_path):
    run, examples = begun(tmp_path / "run", "train.flip=true")
    split = run.recipe.data.split(examples, run.recipe.train.validation, run.recipe.train.seed)
    real = of_run(run, examples=examples)
    assert np.array_equal(real.train.items, examples.items[split.train])
    assert np.array_equal(real.held_out.items, examples.items[split.validation])
    assert real.train.about == {"split": "train"}
    some = of_run(run, 50, 20, seed=3, examples=examples)
    assert (len(some.train), len(some.held_out)) == (50, 20)
    assert some.train.about == {"split": "train", "available": len(split.train), "choice_seed": 3}
    rows = {row.tobytes() for row in real.train.items}
    assert all(row.tobytes() in rows for row in some.train.items)
    assert of_run(run, 50, 20, seed=4, examples=examples).train.digest != some.train.digest


def test_a_folder_is_read_at_the_size_asked_for(tmp_path):
    from PIL import Image

    for i, size in enumerate(((20, 10), (12, 12), (9, 30))):
        Image.new("RGB", size, (i, 2 * i, 9)).save(tmp_path / f"{i}.png")
    with pytest.raises(ValueError, match="several sizes"):
        read_collection(tmp_path)
    found = read_collection(tmp_path, Picture(8, "stretch", 1))
    assert found.shape == (1, 8, 8)
    assert found.about == {"read": {"size": 8, "resize": "stretch", "channels": 1}}
    assert read_collection("digits", Picture(8), most=3).shape == (1, 8, 8)
    with pytest.raises(ValueError, match="how a folder of images is read; digits is none"):
        check_picture(Picture(8), ["digits"])
    check_picture(Picture(8), ["digits", tmp_path])


def test_samples_of_an_array_keep_their_labels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 5, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "s.npz", arr_0=x, arr_1=np.arange(6) % 3)
    found = read_collection(tmp_path / "s.npz")
    assert found.shape == (3, 5, 5)
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    part = found.take([4, 1])
    assert part.labels.tolist() == [1, 1]
    assert np.array_equal(part.items[0], np.moveaxis(x[4], -1, 0))
    assert part.digest != found.digest
