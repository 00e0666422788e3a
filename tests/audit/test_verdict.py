"""What is said when nothing can be told, what is refused, and what stands in the file."""

import json

import numpy as np
import pytest
from audited import arrays, copying, images, law, pictures

from reverie.audit import Settings, audit_sets, read
from reverie.audit.drawn import save
from reverie.audit.findings import FORMAT
from reverie.evaluation.collection import Collection
from reverie.evaluation.extractors import Classifier
from reverie.evaluation.reading import read as read_collection
from reverie.pictures import read_metadata

QUICK = Settings(permutations=299, extractors=(), attacks=50)


def audit(made, training, held_out=None, settings=QUICK):
    return audit_sets(arrays(made), arrays(training), None if held_out is None else arrays(held_out), settings)


def test_without_held_out_examples_copies_are_seen_and_their_absence_is_not():
    training, honest = law(400, 0), law(300, 2)
    found = audit(honest, training)
    assert found.verdict.word == "cannot tell"
    assert "no held-out examples were given" in found.verdict.why
    assert found.finding("near_copies").value <= 0.05
    assert {part.name for part in found.left_out} >= {"closer", "membership"}
    copied = audit(copying(honest, training, 0.5, 0.01), training)
    assert copied.memorises
    assert "no held-out examples are needed to see that" in copied.verdict.why
    assert 0.45 <= copied.finding("near_copies").value <= 0.6
    assert "training examples beside each other" in copied.finding("near_copies").note


def test_features_that_know_the_training_examples_need_held_out_ones():
    digits = read_collection("digits")
    training, made = digits.take(slice(60)), digits.take(slice(200, 400))
    found = audit_sets(made, training, None, Settings(permutations=99, extractors=(Classifier(),)))
    assert found.finding("near_copies", "pixels").p is not None
    assert found.finding("near_copies", "classifier").p is None
    assert "these features know" in found.finding("near_copies", "classifier").note


def test_too_few_held_out_examples():
    found = audit(law(300, 2), law(400, 0), law(49, 1))
    assert (found.verdict.word, found.verdict.why) == ("cannot tell", "only 49 held-out examples: give at least 50")
    assert audit(law(300, 2), law(400, 0), law(50, 1)).verdict.word == "no sign of memorising"


def test_held_out_examples_that_were_trained_on_are_told_and_left_out():
    training, held_out = law(400, 0), law(100, 1)
    found = audit(law(300, 2), training, np.concatenate([held_out, training[:30], held_out[:5]]))
    assert found.protocol["held_out"]["also_in_training"] == 30
    assert found.protocol["held_out"]["used"] == 100
    assert found.verdict.word == "no sign of memorising"
    few = audit(law(300, 2), training, np.concatenate([held_out[:20], training[:80]]))
    assert few.verdict.why == "only 20 held-out examples (80 are also in the training set): give at least 50"
    none = audit(law(300, 2), training, training[:60])
    assert none.verdict.word == "cannot tell"
    assert "only 0 held-out examples (60 are also" in none.verdict.why


def test_held_out_examples_of_another_law_tell_nothing():
    """An honest model is nearer to training than to what is of another law."""
    found = audit(law(300, 2), law(400, 0), law(300, 1) + 0.7)
    assert found.verdict.word == "cannot tell"
    assert "of another law" in found.verdict.why
    assert found.finding("alike").p <= 0.001


def test_too_few_samples_to_see_anything():
    found = audit(law(3, 2), law(400, 0), law(60, 1))
    assert found.verdict.word == "cannot tell"
    assert "would have been seen with 3 samples and 60 held-out examples" in found.verdict.why


@pytest.mark.parametrize(
    ("made", "training", "held_out", "message"),
    [
        (
            arrays(law(50, 0)),
            arrays(law(50, 1, 4)),
            None,
            r"the samples \(arrays\) are arrays of 8, and .* arrays of 4",
        ),
        (arrays(law(50, 0)), images(pictures(50, 1)), None, "are arrays of 8, and the reference .* is images of 1x8x8"),
        (arrays(law(50, 0)), arrays(law(50, 1)), arrays(law(50, 2, 4)), "the held-out examples"),
        (arrays(law(1, 0)), arrays(law(50, 1)), None, "an audit needs at least 2 samples; arrays has 1"),
        (arrays(law(50, 0)), arrays(np.ones((50, 8))), None, "at least 10 distinct training examples; arrays has 1"),
        (arrays(np.full((9, 8), np.nan)), arrays(law(50, 1)), None, "arrays holds numbers that are not finite"),
    ],
)
def test_what_is_refused(made, training, held_out, message):
    with pytest.raises(ValueError, match=message):
        audit_sets(made, training, held_out, QUICK)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 1}, "n must be at least 2; given 1"),
        ({"level": 0.0}, "level must lie between 0 and 0.5; given 0.0"),
        ({"permutations": 9}, "permutations must be at least 99; given 9"),
        ({"leak": 0.5}, "leak must be at least 0 and below 0.5; given 0.5"),
        ({"seed": -1}, "seed must be at least 0; given -1"),
    ],
)
def test_settings_out_of_range(given, message):
    with pytest.raises(ValueError, match=message):
        Settings(**given)


# ------------------------------------------------------------------------------------------- files


def test_an_audit_comes_back_from_its_file_with_its_pictures(tmp_path):
    training, held_out = pictures(300, 0), pictures(200, 1)
    made = images(copying(pictures(200, 2), training, 0.3, 1.0))
    found = audit_sets(made, images(training), images(held_out), QUICK)
    paths = save(found, tmp_path / "audit", "a")
    assert [p.name for p in paths] == ["a.json", "a-distances.png", "a-pairs.png"]
    again = read(paths[0])
    assert again.to_data() == found.to_data()
    assert again.pairs is None
    assert again.memorises
    assert all(read_metadata(p)["verdict"] == "memorises" for p in paths[1:])
    protocol = again.protocol
    assert protocol["samples"]["digest"] == made.digest
    assert protocol["training"]["n"] == 300
    assert protocol["spaces"][0]["kind"] == "pixels"
    assert protocol["settings"]["level"] == 0.01
    assert sum(again.histograms[0].samples) == 200
    assert sum(again.histograms[0].held_out) == 200


def test_arrays_have_no_sheet_of_pairs(tmp_path):
    found = audit(law(60, 0), law(100, 1), law(60, 2))
    assert [p.name for p in save(found, tmp_path, "a")] == ["a.json", "a-distances.png"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "is damaged: it has no format number"),
        (json.dumps({"format": FORMAT + 1}), "written by a newer Reverie"),
        (json.dumps({"format": FORMAT}), "is damaged"),
        (json.dumps({"format": FORMAT, "verdict": {"word": "perhaps", "why": ""}}), "is damaged"),
    ],
)
def test_a_damaged_file_is_said_to_be_one(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.json")


def test_a_finding_that_is_not_there():
    found = audit(law(60, 0), law(100, 1), law(60, 2))
    with pytest.raises(KeyError):
        found.finding("membership")


def test_labels_of_samples_change_nothing():
    made = Collection(law(60, 0), False, "a", {}, np.zeros(60, np.int64), ("x",))
    one = audit_sets(made, arrays(law(100, 1)), arrays(law(60, 2)), QUICK)
    assert one.finding("closer") == audit(law(60, 0), law(100, 1), law(60, 2)).finding("closer")
