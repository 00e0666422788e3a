"""Records: guesses that single one out, distances to the closest."""

import numpy as np
from audited import arrays, copying, law
from scipy.stats import kstest

from reverie.audit import Settings, audit_sets
from reverie.audit.closer import Pool
from reverie.audit.material import prepared
from reverie.audit.singling import _columns, _fits, _singled, singling_out

QUICK = Settings(permutations=299, extractors=(), attacks=200)


def test_what_a_guess_fits():
    records = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 5.0], [4.0, 6.0]])
    guesses, middle = np.array([[3.0, 6.0], [2.0, 5.0]]), np.array([2.5, 5.5])
    few, every = np.array([False, True]), np.ones((2, 2), bool)
    assert _fits(guesses, middle, records, few, every).tolist() == [
        [False, False, False, True],  # at least 3, and 6
        [True, False, False, False],  # at most 2, and 5
    ]
    first = np.array([[True, False], [False, True]])
    assert _fits(guesses, middle, records, few, first).tolist() == [
        [False, False, True, True],
        [True, False, True, False],
    ]
    halves = np.array([[True, True, False, False], [True, False, True, True]])
    assert _singled(_fits(guesses, middle, records, few, every), halves).tolist() == [0.5, 1.0]


def test_guesses_are_about_one_to_four_columns():
    columns = _columns(np.random.default_rng(0), 4000, 6)
    sizes = columns.sum(1)
    assert set(sizes) == {1, 2, 3, 4}
    assert np.abs(columns.mean(0) - 2.5 / 6).max() < 0.04
    assert _columns(np.random.default_rng(0), 50, 1).all()


def material(made, training, held_out):
    found = prepared(arrays(made), arrays(training), arrays(held_out), QUICK)
    size = min(len(training), len(held_out))
    items = np.concatenate([training[:size], held_out[:size]])
    return found, Pool(arrays(items), np.arange(2 * size) < size)


def test_the_test_of_singling_out_is_calibrated_and_copies_are_seen():
    strict = Settings(permutations=199, attacks=150, tolerance=0.0)
    p = []
    for i in range(60):
        found, pool = material(law(150, 3 * i), law(100, 3 * i + 1), law(100, 3 * i + 2))
        p.append(singling_out(found, pool, strict).p)
    assert kstest(p, "uniform").pvalue > 1e-4
    training = law(200, 500)
    found, pool = material(training[:150], training, law(200, 501))
    seen = singling_out(found, pool, strict)
    assert seen.p < 0.01
    assert seen.value > seen.expected + 0.1
    assert f"risk {100 * (seen.value - seen.expected) / (1 - seen.expected):.2g} %" in seen.note


def test_an_audit_of_a_table_tells_distances_to_the_closest_record():
    training, held_out, honest = law(300, 0), law(300, 1), law(300, 2)
    found = audit_sets(arrays(honest), arrays(training), arrays(held_out), QUICK)
    assert not found.memorises
    assert 0.4 < found.finding("closer").value < 0.6
    assert abs(found.finding("nndr").value - found.finding("nndr").expected) < 0.03
    copied = audit_sets(arrays(copying(honest, training, 0.6, 0.01)), arrays(training), arrays(held_out), QUICK)
    assert copied.memorises
    assert copied.finding("closer").value > 0.7
    assert copied.finding("nndr").value < 0.5


def test_tables_of_few_values_are_not_accused_for_identical_records():
    """Records of four columns with three values each: half of an honest model's are training records."""
    random = np.random.default_rng(0)
    training, held_out, honest = (random.integers(0, 3, (400, 4)).astype(np.float32) for _ in range(3))
    found = audit_sets(arrays(honest), arrays(training), arrays(held_out), QUICK)
    assert found.verdict.word == "cannot tell"
    training, held_out, honest = (random.integers(0, 12, (60, 4)).astype(np.float32) for _ in range(3))
    assert audit_sets(arrays(honest), arrays(training), arrays(held_out), QUICK).verdict.word != "memorises"
