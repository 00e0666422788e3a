"""Honest models are not accused, copying ones are, whatever the law; statements about rates have their bounds."""

from functools import partial

import numpy as np
import pytest
from audited import arrays, copying, images, law, pictures
from scipy.stats import binom, kstest

from reverie.audit import Settings, audit_sets
from reverie.data import Examples, split
from reverie.evaluation.collection import Collection

QUICK = Settings(permutations=299, extractors=(), attacks=100)


def audit(made, training, held_out, settings=QUICK):
    kind = images if training.dtype == np.uint8 else arrays
    return audit_sets(kind(made), kind(training), None if held_out is None else kind(held_out), settings)


@pytest.mark.parametrize("draw", [partial(law, width=2), partial(law, width=16), pictures], ids=["plane", "16", "8x8"])
def test_honest_samples_are_accused_no_more_often_than_stated(draw):
    """40 audits at a level of 0.1, no difference granted; the bounds are those of the binomial law at 1e-5."""
    strict = Settings(permutations=299, extractors=(), attacks=100, level=0.1, tolerance=0.0, neighbours=10)
    found = [audit(draw(120, 3 * i), draw(260, 3 * i + 1), draw(100, 3 * i + 2), strict) for i in range(40)]
    assert sum(a.memorises for a in found) <= binom.isf(1e-5, 40, 0.1)
    p = np.array([a.finding("closer").p for a in found])
    assert kstest(p, "uniform").pvalue > 1e-5  # neither too small nor too large
    near = np.array([a.finding("near_copies").p for a in found])
    assert (near <= 0.1).sum() <= binom.isf(1e-5, 40, 0.1)


@pytest.mark.parametrize("draw", [partial(law, width=2), partial(law, width=16), pictures], ids=["plane", "16", "8x8"])
def test_few_training_examples_alone_accuse_no_more_often_than_stated(draw):
    """60 audits of honest samples beside 45 training examples and nothing held out; bounds as above."""
    strict = Settings(permutations=99, extractors=(), attacks=1, level=0.1, neighbours=10)
    near = [audit(draw(150, 2 * i), draw(45, 2 * i + 1), None, strict).finding("near_copies").p for i in range(60)]
    for level in (0.1, 0.01):
        assert (np.array(near) <= level).sum() <= binom.isf(1e-5, 60, level)


def _atom(n, random):
    x = random.standard_normal((n, 6)).astype(np.float32)
    x[random.random(n) < 0.2] = 0.5
    return x


def _blank(n, random):
    x = pictures(n, int(random.integers(10**6)))
    x[random.random(n) < 0.1] = 0
    return x


REPEATING = {
    "one value of weight 0.2": _atom,
    "blank pictures": _blank,
    "ten bits": lambda n, random: random.integers(0, 2, (n, 10)).astype(np.float32),
    "two rounded columns": lambda n, random: np.round(20 * random.standard_normal((n, 2))).astype(np.float32),
}


@pytest.mark.parametrize("law_of", REPEATING.values(), ids=REPEATING)
@pytest.mark.parametrize("divided", ["by chance", "by group", "not"])
def test_data_that_repeat_make_no_honest_model_a_copying_one(law_of, divided):
    """Ten audits at 0.01: more accusations than the bound have a probability below 1e-5."""
    wrong = 0
    for i in range(10):
        random = np.random.default_rng(i)
        x, made = law_of(900, random), law_of(300, random)
        training, held_out = x[:600], x[600:]
        if divided == "by group":
            parts = split(Examples(x, image=x.dtype == np.uint8), 1 / 3, i)
            training, held_out = x[parts.train], x[parts.validation]
        wrong += audit(made, training, None if divided == "not" else held_out).memorises
    assert wrong <= binom.isf(1e-5, 10, 0.01)


def test_copies_are_seen_among_data_that_repeat():
    random = np.random.default_rng(0)
    x, made = _atom(1400, random), _atom(500, random)
    training, held_out = x[:1000], x[1000:]
    made[:60] = training[np.flatnonzero((training != 0.5).any(1))[:60]]
    found = audit(made, training, held_out)
    assert found.memorises
    assert "are left aside" in found.finding("near_copies").note


def test_samples_of_another_law_are_not_accused_either():
    """Typical samples, and those of few modes, are near to training and held-out examples alike; none is copied.

    At the default level of 0.01, 3 of 24 accusations have a probability of 2e-3, 5 of 4e-6.
    """
    wrong = 0
    for i in range(12):
        training, held_out = law(400, 3 * i), law(200, 3 * i + 1)
        some = law(900, 3 * i + 2)
        middle = some[np.argsort(((some - some.mean(0)) ** 2).sum(1))[:200]]
        single = some[np.argsort(np.linalg.norm(some - some[0], axis=1))[:200]]
        wrong += audit(middle, training, held_out).memorises + audit(single, training, held_out).memorises
    assert wrong <= 4


@pytest.mark.parametrize("share", [0.06, 0.1, 0.5, 1.0])
def test_copies_are_seen_and_counted(share):
    training, held_out, honest = law(600, 0, 16), law(400, 1, 16), law(500, 2, 16)
    found = audit(copying(honest, training, share, 0.02), training, held_out)
    assert found.memorises
    copies = found.finding("near_copies")
    assert copies.low <= share + (1 - share) * copies.expected
    assert copies.high >= share
    assert copies.adjusted < 0.01


def test_noisy_copies_of_pictures_are_seen_with_their_originals():
    training, held_out, honest = pictures(500, 0), pictures(400, 1), pictures(400, 2)
    made = copying(honest, training, 0.1, 3.0)
    found = audit(made, training, held_out)
    assert found.memorises
    assert found.pairs.shape == (16, 2, 1, 8, 8)
    for copy in [c for c in found.copies if c.sample < 40]:
        difference = made[copy.sample].astype(float) - training[copy.training]
        assert np.isclose(np.sqrt((difference**2).mean()) / 255, copy.distance, rtol=1e-5)
        assert np.sqrt((difference**2).mean()) < 6
    assert len([c for c in found.copies if c.sample < 40]) >= 38


def test_mirrored_copies_are_seen_where_asked():
    training, held_out, honest = pictures(500, 0), pictures(400, 1), pictures(300, 2)
    made = copying(honest, training[..., ::-1], 0.15, 1.0)
    flipped = Settings(permutations=299, extractors=(), flip=True)
    assert not audit(made, training, held_out).memorises
    found = audit(made, training, held_out, flipped)
    assert found.memorises
    assert found.protocol["spaces"][0]["mirrored"]
    assert not audit(honest, training, held_out, flipped).memorises


def test_copies_are_explained_by_what_occurs_often():
    """Of 300 examples ten stand eight times in the set, five more with a twin; samples copy these alone."""
    random = np.random.default_rng(0)
    once, held_out, honest = law(300, 0, 16), law(300, 1, 16), law(300, 2, 16)
    near = once[10:15] + 0.001 * random.standard_normal((5, 16)).astype(np.float32)
    training = np.concatenate([once, np.repeat(once[:10], 7, axis=0), near])
    found = audit(copying(honest, once[:15], 0.2, 0.001), training, held_out)
    assert found.memorises
    assert found.duplicates.identical == 70
    assert np.isclose(found.duplicates.repeated, 10 / 305)
    copied = [c for c in found.copies if c.sample < 60]
    assert len(copied) == 60
    assert found.duplicates.explained >= 60
    assert {c.copies for c in copied if c.training < 10} == {8}
    assert {c.copies for c in copied if c.training >= 10} == {1}
    assert all(c.twins == 1 for c in copied if c.training >= 10)
    assert 10 / 305 - 1e-9 <= found.duplicates.twins <= 0.08  # five and their twins, and those that are so by chance


def test_learned_features_are_another_space():
    """Labels are at hand: a classifier is trained on the training examples, and near-copies are sought there too."""
    random = np.random.default_rng(0)
    training = Collection(pictures(300, 0), True, "a", {}, random.integers(0, 2, 300), ("0", "1"))
    held_out, honest = images(pictures(200, 1)), pictures(200, 2)
    settings = Settings(permutations=299)
    made = images(copying(honest, training.items, 0.3, 1.0))
    found = audit_sets(made, training, held_out, settings)
    assert found.memorises
    assert found.finding("near_copies", "classifier").adjusted < 0.01
    assert [s["kind"] for s in found.protocol["spaces"]] == ["pixels", "classifier"]
    assert found.protocol["spaces"][1]["digest"]
    assert not audit_sets(images(honest), training, held_out, settings).memorises


def test_the_same_audit_twice_is_the_same_to_the_last_digit():
    training, held_out, honest = law(300, 0), law(100, 1), law(100, 2)
    first, second = (audit(honest, training, held_out).to_data() for _ in range(2))
    first.pop("about")
    second.pop("about")
    assert first == second
