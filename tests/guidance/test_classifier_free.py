from dataclasses import replace

import pytest
import torch
from guided import COND, DROP, LABEL, TIMES, Saying, Two, X
from helpers import DOUBLE, close, every_schedule, labelled, mixture, randn

from reverie.conditioning import Cond
from reverie.denoiser import Clipped, FixedRows, Wrapper
from reverie.guidance import ClassifierFree
from reverie.guidance.evaluations import TOGETHER
from reverie.prediction import Prediction
from reverie.samplers import DDIM
from reverie.sampling import generate
from reverie.schedules import LinearVP
from reverie.tensors import host


@pytest.mark.parametrize("schedule", **every_schedule)
def test_scale_one_is_no_guidance_and_zero_is_unconditional(schedule):
    f = labelled(schedule)
    for t in (TIMES, *TIMES):
        assert close(ClassifierFree(f, 1.0)(X, t, COND).x0, f(X, t, COND).x0)
        assert close(ClassifierFree(f, 0.0)(X, t, COND).x0, f(X, t).x0)
        assert close(ClassifierFree(f, 0.0)(X, t, COND).eps, f(X, t).eps)


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 7.5])
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_guided_score_is_that_of_the_tilted_density(schedule, scale):
    # grad log [p(x) p(c | x)^w], with p(c | x) = p(x | c) p(c) / p(x): the classifier by automatic differentiation.
    f = labelled(schedule)
    for t in (TIMES, *TIMES):
        x = X.clone().requires_grad_()
        total = f.log_density(x, t)
        classifier = f.log_density(x, t, COND) - total
        (score,) = torch.autograd.grad((total + scale * classifier).sum(), x)
        q = ClassifierFree(f, scale)(X, t, COND)
        sigma = q.level.sigma
        assert close(sigma * q.score, sigma * score, 1e-10)
        assert close(q.level.alpha * q.x0 + sigma * q.eps, X, 1e-11)


def test_without_a_condition_nothing_is_guided():
    f = labelled(LinearVP())
    for cond in (None, Cond(), Cond(drop=torch.ones(4, dtype=torch.bool))):
        assert torch.equal(ClassifierFree(f, 3.0)(X, TIMES, cond).x0, f(X, TIMES).x0)


def test_a_batch_of_one_and_one_time_for_all():
    f = ClassifierFree(labelled(LinearVP()), 2.0)
    for i in range(4):
        one = Cond(label=COND.label[i : i + 1])
        for t in (TIMES[i], TIMES[i : i + 1]):
            assert close(f(X[i : i + 1], t, one).x0[0], f(X, TIMES, COND).x0[i])
    assert close(f(X, TIMES[:1], COND).x0, f(X, TIMES[0], COND).x0)


def test_the_denoiser_is_called_once_and_the_schedule_is_its():
    calls = []

    class Counting:
        schedule = LinearVP()

        def __call__(self, x, t, cond=None):
            calls.append(x.shape[0])
            return labelled(self.schedule)(x, t, cond)

    f = ClassifierFree(Counting(), 2.0)
    f(X, TIMES, COND)
    f(X, host(0.3), COND)
    assert calls == [8, 8]
    assert f.schedule is Counting.schedule


@pytest.mark.parametrize("notation", [None, "x0", "eps", "v"])
@pytest.mark.parametrize("scale", [0.0, 2.5])
def test_one_call_or_two_and_whatever_the_notation(notation, scale):
    plain = labelled(LinearVP())
    for t in (TIMES, *TIMES, TIMES[:1]):
        with_, without = plain(X, t, COND), plain(X, t)
        x0, eps = (a + (scale - 1) * (a - b) for a, b in ((with_.x0, without.x0), (with_.eps, without.eps)))
        results = []
        for together, calls in ((4, [8]), (3, [4, 4])):
            f = Saying(notation)
            results.append(ClassifierFree(f, scale, together)(X, t, COND))
            assert f.calls == calls
            assert close(results[-1].x0, x0, 1e-10)
            assert close(results[-1].eps, eps, 1e-10)
            assert close(results[-1].mix(0.3, 0.7), 0.3 * x0 + 0.7 * eps, 1e-10)
        assert torch.equal(results[0].x0, results[1].x0)
        assert torch.equal(results[0].eps, results[1].eps)


def test_on_a_cpu_small_batches_go_together_and_large_ones_apart():
    def calls(n, rows=None):
        f = Saying("v")
        g = ClassifierFree(f if rows is None else FixedRows(f, rows), 2.0)
        g(randn(n, 2), host(0.5), Cond(label=torch.zeros(n, dtype=torch.int64)))
        return f.calls

    assert calls(TOGETHER) == [2 * TOGETHER]
    assert calls(TOGETHER + 1) == [TOGETHER + 1] * 2
    assert calls(16, 8) == [8] * 4
    assert calls(12, 8) == [8] * 3  # apart they would be padded to 16 each


def test_fixed_rows_say_what_the_denoiser_says():
    for notation in (None, "x0", "eps", "v"):
        f, rows = Saying(notation), randn(7, 2, seed=5)
        for t in (host(0.4), torch.linspace(0.1, 0.9, 7, dtype=DOUBLE), TIMES[1:2]):
            for n in (1, 2, 3, 7, 10):
                q, plain = FixedRows(f, n)(rows, t), f(rows, t)
                assert close(q.x0, plain.x0, 1e-10)
                assert close(q.eps, plain.eps, 1e-10)
                assert close(q.mix(0.2, -1.3), plain.mix(0.2, -1.3), 1e-10)


def test_guidance_pulls_samples_to_the_class():
    data = labelled(LinearVP())
    f = Clipped(ClassifierFree(data, 3.0), -4, 4)
    cond = Cond(label=torch.ones(500, dtype=torch.int64))
    times = torch.linspace(1, 0, 41, dtype=DOUBLE)
    x = randn(500, 2, seed=3)

    def confidence(samples):
        return float((data.log_density(samples, 0.01, cond) - data.log_density(samples, 0.01)).mean())

    guided, plain = generate(f, DDIM(), times, x, cond), generate(data, DDIM(), times, x, cond)
    assert confidence(guided) > confidence(plain) + 0.02


def test_settings_that_mean_nothing():
    with pytest.raises(TypeError):
        ClassifierFree(mixture(LinearVP()), scal=2.0)
    for wrong, said in (
        ({"together": -1}, "0 or more"),
        ({"interval": (2.0, 1.0)}, "0 <= low < high"),
        ({"interval": (-1.0, 1.0)}, "0 <= low < high"),
        ({"rescale": 1.5}, "a share"),
        ({"scales": {"labels": 2.0}}, "given 'labels'"),
        ({"negative": Cond()}, "tells nothing"),
    ):
        with pytest.raises(ValueError, match=said):
            ClassifierFree(mixture(LinearVP()), 2.0, **wrong)


# ------------------------------------------------------------------------------------ interval


def ratio(schedule, t):
    return float(schedule.sigma(host(t)) / schedule.alpha(host(t)))


def test_an_interval_is_above_its_low_end_and_up_to_its_high_one():
    f, levels = labelled(LinearVP()), [ratio(LinearVP(), t) for t in TIMES]
    for low, high, inside in (
        (levels[0], levels[2], [False, True, True, False]),
        (0.0, levels[1], [True, True, False, False]),
        (levels[2], float("inf"), [False, False, False, True]),
        (0.0, levels[0] / 2, [False] * 4),
    ):
        g, everywhere, never = ClassifierFree(f, 3.0, interval=(low, high)), ClassifierFree(f, 3.0), f
        for t, x, cond in [(TIMES, X, COND)] + [(TIMES[i], X, COND) for i in range(4)]:
            q, a, b = (h(x, t, cond) for h in (g, everywhere, never))
            on = torch.tensor(inside) if t.ndim else torch.tensor(inside)[t == TIMES].expand(4)
            assert torch.equal(q.x0, torch.where(on[:, None], a.x0, b.x0))
            assert torch.equal(q.eps, torch.where(on[:, None], a.eps, b.eps))


def test_outside_of_the_interval_nothing_more_is_evaluated():
    f = Saying("v")
    g = ClassifierFree(f, 3.0, interval=(0.0, ratio(f.schedule, 0.4)))
    for t in (0.5, 0.3):
        g(X, host(t), COND)
    g(X, TIMES[2:].repeat(2), COND)
    assert f.calls == [4, 8, 4]


# ------------------------------------------------------------------------------------- rescale


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_rescaling_brings_the_standard_deviation_back(share):
    f = labelled(LinearVP())
    for t in (TIMES, TIMES[1]):
        given, plain = f(X, t, COND).x0, ClassifierFree(f, 4.0)(X, t, COND).x0
        q = ClassifierFree(f, 4.0, rescale=share)(X, t, COND)
        back = plain * (given.std(1) / plain.std(1))[:, None]
        assert close(q.x0, share * back + (1 - share) * plain, 1e-12)
        assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, X, 1e-12)
        assert share < 1 or close(q.x0.std(1), given.std(1), 1e-12)


def test_an_example_of_one_number_has_no_standard_deviation_to_rescale():
    f = Two(torch.tensor([[1.0], [-1.0]]).double(), torch.tensor([0, 1]), torch.tensor([0, 0]))
    q = ClassifierFree(f, 4.0, rescale=1.0)(X[:, :1], TIMES, COND)
    assert close(q.x0, ClassifierFree(f, 4.0)(X[:, :1], TIMES, COND).x0)


# ------------------------------------------------------------------------------------ negative


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("together", [0, 4])
def test_a_negative_condition_stands_in_the_place_of_none(scale, together):
    f, other = labelled(LinearVP()), torch.tensor([1, 1, 0, 0])
    for negative in (Cond(label=torch.tensor([1])), Cond(label=other)):
        label = negative.label.expand(4)
        for t in (TIMES, TIMES[2]):
            a, b = f(X, t, COND), f(X, t, Cond(label=label))
            q = ClassifierFree(f, scale, together, negative=negative)(X, t, COND)
            assert close(q.x0, b.x0 + scale * (a.x0 - b.x0), 1e-11)
            assert close(q.eps, b.eps + scale * (a.eps - b.eps), 1e-11)
    dropped = Cond(label=LABEL, drop=DROP)
    q, free = ClassifierFree(f, 3.0, together, negative=negative)(X, TIMES, dropped), f(X, TIMES)
    assert torch.equal(q.x0[DROP], free.x0[DROP])
    hidden = Cond(label=other, drop=torch.ones(4, dtype=torch.bool))
    q, plain = ClassifierFree(f, 3.0, together, negative=hidden)(X, TIMES, COND), ClassifierFree(f, 3.0)
    assert close(q.x0, plain(X, TIMES, COND).x0)


def test_a_batch_several_times_over_keeps_its_negative_rows():
    f, negative = labelled(LinearVP()), Cond(label=torch.tensor([1, 1, 0]))
    g = ClassifierFree(f, 3.0, negative=negative)
    x, t, cond = X.repeat(2, 1)[:6], host(0.4), Cond(label=LABEL.repeat(2)[:6])
    q = g(x, t, cond)
    assert close(q.x0[3:], g(x[3:], t, cond[3:]).x0)
    assert g.by_row
    assert not ClassifierFree(f, 3.0, negative=negative[:1]).by_row
    assert close(FixedRows(g, 8)(x[:3], t, cond[:3]).x0, q.x0[:3])
    with pytest.raises(ValueError, match="put FixedRows inside"):
        FixedRows(g, 3)(x, t, cond)
    with pytest.raises(ValueError, match="given 3"):
        g(X[:2], t, COND[:2])


class Reading:
    """x0 is the mean of the real tokens, and a class's number on top; nothing told is 0."""

    schedule = LinearVP()

    def __call__(self, x, t, cond=None):
        mask = torch.ones(cond.tokens.shape[:2], dtype=torch.bool) if cond.mask is None else cond.mask
        text = (cond.tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        cond = cond.without(len(x))
        x0 = torch.where(cond.hidden("text")[:, None], 0.0, text)
        if cond.label is not None:
            x0 = x0 + torch.where(cond.hidden("label"), 0, 10 + cond.label)[:, None]
        return Prediction.from_x0(x0, x, self.schedule.at(t, like=x))


@pytest.mark.parametrize("together", [0, 4])
def test_a_negative_text_of_another_length_and_without_the_class(together):
    f, t = Reading(), host(0.5)
    cond = Cond(tokens=randn(4, 3, 2), label=LABEL, mask=torch.tensor([[True, True, False]]).expand(4, -1))
    own = f(X, t, cond.without(4)).x0
    for negative in (Cond(tokens=randn(1, 5, 2, seed=3)), Cond(tokens=randn(4, 2, 2, seed=4))):
        away = negative.tokens.mean(1)  # its class is not told
        assert close(ClassifierFree(f, 3.0, together, negative=negative)(X, t, cond).x0, away + 3 * (own - away))
    only = Cond(tokens=cond.tokens, mask=cond.mask)  # and a negative class, where only a text is asked for
    q = ClassifierFree(f, 3.0, together, negative=Cond(label=torch.tensor([1])))(X, t, only)
    text = (cond.tokens[:, :2]).mean(1)
    assert close(q.x0, 11 + 3 * (text - 11))


@pytest.mark.parametrize("together", [0, 4])
def test_a_negative_condition_has_the_estimate_and_the_level_of_the_other(together):
    seen = []

    class Listening(Wrapper):
        def __call__(self, x, t, cond=None):
            seen.extend([(cond.estimate[:4], cond.level[:4]), (cond.estimate[-4:], cond.level[-4:])])
            return self.denoiser(x, t, cond)

    level = torch.full((4,), 0.2)
    f = ClassifierFree(Listening(labelled(LinearVP())), 3.0, together, negative=Cond(label=torch.tensor([1])))
    f(X, TIMES, Cond(label=LABEL, estimate=X + 1, level=level, vector=X))
    assert len(seen) == (2 if together else 4)
    assert all(torch.equal(a, X + 1) and torch.equal(b, level) for a, b in seen)


# -------------------------------------------------------------------------------------- scales

BOTH = Cond(label=torch.tensor([0, 1]), vector=torch.tensor([[1.0], [0.0]], dtype=DOUBLE))
NUMBERS = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
PRODUCT = Two(2.0 * NUMBERS.double(), NUMBERS[:, 0], NUMBERS[:, 1])  # each class moves a number of its own
TANGLED = Two(randn(4, 2, seed=5), NUMBERS[:, 0], NUMBERS[:, 1])


@pytest.mark.parametrize("together", [0, 2])
def test_scales_of_parts_are_those_of_the_composed_density(together):
    f, x = TANGLED, X[:2]
    for t in (host(0.4), TIMES[1:3]):
        free, label, vector = f(x, t).x0, f(x, t, Cond(label=BOTH.label)).x0, f(x, t, Cond(vector=BOTH.vector)).x0
        for a, b in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (2.0, -0.5), (3.0, 3.0)):
            expected = free + a * (label - free) + b * (vector - free)
            for scale, scales in ((9.0, {"label": a, "vector": b}), (b, {"label": a, "text": 5.0})):
                q = ClassifierFree(f, scale, together, scales=scales)(x, t, BOTH)
                assert close(q.x0, expected, 1e-11)
                assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, x, 1e-11)


def test_scales_of_one_part_are_ordinary_guidance():
    f = labelled(LinearVP())
    for w in (0.0, 1.0, 2.5):
        q = ClassifierFree(f, 9.0, scales={"label": w})(X, TIMES, COND)
        assert torch.equal(q.x0, ClassifierFree(f, w)(X, TIMES, COND).x0)


def test_scales_of_one_are_no_guidance_where_the_parts_are_independent_given_x():
    x, t, ones = X[:2], TIMES[1:3], {"label": 1.0, "vector": 1.0}
    assert close(ClassifierFree(PRODUCT, 9.0, scales=ones)(x, t, BOTH).x0, PRODUCT(x, t, BOTH).x0, 1e-11)
    assert not close(ClassifierFree(TANGLED, 9.0, scales=ones)(x, t, BOTH).x0, TANGLED(x, t, BOTH).x0, 1e-2)


class Marked(Wrapper):
    """Its variance is 0.1 where the label is told, and 0.2 more where the vector is."""

    def __call__(self, x, t, cond=None):
        told = 0.1 * ~cond.hidden("label") + 0.2 * ~cond.hidden("vector")
        return self.denoiser(x, t, cond).with_var(told.to(x)[:, None].expand_as(x))


def test_scales_with_all_the_other_settings():
    f, x, t = TANGLED, X[:2], TIMES[1:3]
    scales, cond = {"label": 2.0, "vector": 3.0}, replace(BOTH, drop=torch.tensor([True, False]))
    plain, whole = ClassifierFree(f, 9.0, scales=scales)(x, t, BOTH), f(x, t, BOTH)
    assert torch.equal(ClassifierFree(f, 9.0, scales=scales)(x, t, cond).x0[0], f(x, t).x0[0])
    assert close(ClassifierFree(f, 9.0, scales=scales)(x, t, cond).x0[1], plain.x0[1])
    split = ratio(f.schedule, 0.4)
    q = ClassifierFree(f, 9.0, scales=scales, interval=(0.0, split))(x, t, BOTH)
    assert close(q.x0, torch.stack([plain.x0[0], whole.x0[1]]))
    q = ClassifierFree(f, 9.0, scales=scales, rescale=1.0)(x, t, BOTH)
    assert close(q.x0.std(1), whole.x0.std(1))
    away = f(x, t, Cond(label=1 - BOTH.label))
    q = ClassifierFree(f, 9.0, scales=scales, negative=Cond(label=1 - BOTH.label))(x, t, BOTH)
    parts = [f(x, t, Cond(label=BOTH.label)), f(x, t, Cond(vector=BOTH.vector))]
    assert close(q.x0, away.x0 + sum(w * (p.x0 - away.x0) for w, p in zip((2, 3), parts, strict=True)))
    half = replace(BOTH, drop=torch.tensor([[False, True, False, False]] * 2))
    q = ClassifierFree(f, 9.0, scales=scales)(x, t, half)
    assert close(q.x0, ClassifierFree(f, 2.0)(x, t, Cond(label=BOTH.label)).x0)
    for scales, whose in (({"label": 2.0, "vector": 3.0}, 0.2), ({"label": 3.0, "vector": 2.0}, 0.1)):
        assert close(ClassifierFree(Marked(f), 9.0, scales=scales)(x, t, BOTH).var, torch.full((2, 2), whose))
