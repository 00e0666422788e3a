import gc
import weakref

import numpy as np
import pytest
from helpers import cases

from reverie.config import from_data, registered, to_data
from reverie.evaluation.extractors.base import Features
from reverie.evaluation.metrics import Metric, Unfit, from_names, standard
from reverie.evaluation.metrics.once import once
from reverie.evaluation.team import one_thread

every = pytest.mark.parametrize("metric", **cases(Metric))


def sets(n=150, m=200, width=6, shift=0.5):
    """Samples and real examples with all that a metric may ask for."""
    rng = np.random.Generator(np.random.Philox(5))

    def one(count, shift):
        p = rng.dirichlet(np.ones(4), count)
        return Features(rng.standard_normal((count, width)) + shift, p, rng.integers(0, 4, count))

    return one(n, shift), one(m, 0.0)


def copied(of):
    """The same numbers, of which nothing is known yet."""
    return Features(of.values.copy(), of.probabilities.copy(), of.labels.copy())


@every
def test_is_a_function_of_its_arguments_to_the_last_digit(metric):
    made, real = sets()
    metric.check(made, real)
    first, before = metric(made, real), [copied(made), copied(real)]
    assert type(first) is float
    assert metric(made, real) == first  # with what is known of the reference
    assert metric(*before) == first  # and without
    with one_thread():
        assert metric(copied(made), copied(real)) == first
    for of, was in zip((made, real), before, strict=True):
        assert np.array_equal(of.values, was.values)
        assert np.array_equal(of.probabilities, was.probabilities)


@every
def test_order_of_the_rows_does_not_matter(metric):
    if metric.kind == "fid_infinity":
        pytest.skip("its halves are dealt by place")
    made, real = sets()
    rng = np.random.Generator(np.random.Philox(6))
    turned = made.take(rng.permutation(len(made))), real.take(rng.permutation(len(real)))
    assert metric(*turned) == pytest.approx(metric(made, real), rel=1e-9)


@every
def test_is_worse_for_samples_far_away(metric):
    if metric.needs:
        pytest.skip("it looks at probabilities, not at where samples lie")
    (near, real), (far, _) = sets(shift=0.0), sets(shift=8.0)
    value, other = metric(near, real), metric(far, real)
    assert other > value if metric.better == "lower" else other < value


@every
def test_sets_that_do_not_do_are_told_so(metric):
    made, real = sets()
    with pytest.raises(Unfit, match=rf"^{metric.kind} needs .* given 0 and 200"):
        metric.check(made.take(slice(0, 0)), real)
    broken = made.values.copy()
    broken[3, 1] = np.nan
    with pytest.raises(Unfit, match=rf"^{metric.kind} needs finite features; 1 of 150 samples"):
        metric.check(Features(broken, made.probabilities, made.labels), real)
    with pytest.raises(ValueError, match=r"features of one extractor; given \(6,\) and \(5,\)"):
        metric.check(made, Features(real.values[:, :5]))


@every
def test_is_described(metric):
    assert metric.title
    assert metric.note(100, 200, 10)
    assert from_data(Metric, to_data(metric), "metric") == metric


def test_standard_ones_fit_the_extractor():
    kinds = {learned: [m.kind for m in standard(learned)] for learned in (True, False)}
    assert kinds[True][:3] == ["fid", "fid_infinity", "kid"]
    assert {"precision", "recall", "density", "coverage", "inception_score", "label_accuracy"} < set(kinds[True])
    assert kinds[False] == ["sliced_wasserstein", "mmd", "modes", "mode_balance"]
    assert "cmmd" not in kinds[True]
    assert "cmmd" in [m.kind for m in standard(True, network="CLIP")]
    for lacking in ("probabilities", "labels"):
        without = {m.kind for m in standard(True, **{lacking: False})}
        assert set(kinds[True]) - without == {m.kind for m in standard(True) if lacking in m.needs} != set()


def test_metrics_are_found_by_their_names():
    found = from_names(" kid, FID,inception-score,kid ")
    assert [m.kind for m in found] == ["kid", "fid", "inception_score"]
    assert [m.kind for m in from_names(",".join(registered(Metric)))] == list(registered(Metric))
    with pytest.raises(ValueError, match=r"unknown metric 'precison'; known: .*did you mean 'precision'\?"):
        from_names("fid,precison")
    with pytest.raises(ValueError, match="no metric is named in ' ,'"):
        from_names(" ,")


def test_what_is_known_of_a_set_goes_with_it():
    made, _ = sets()
    calls = []
    for _ in range(2):
        assert once(made, "key", lambda: calls.append(1) or np.ones(3)).sum() == 3
    assert once(made, "other", lambda: 2) == 2
    assert len(calls) == 1
    kept = weakref.ref(once(made, "array", lambda: np.zeros(2)))
    del made
    gc.collect()
    assert kept() is None
