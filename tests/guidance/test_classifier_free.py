import pytest
import torch
from helpers import DOUBLE, close, every_schedule, labelled, mixture, randn

from reverie.conditioning import Cond
from reverie.denoiser import Clipped, FixedRows
from reverie.guidance import ClassifierFree
from reverie.guidance.classifier_free import TOGETHER
from reverie.prediction import Prediction
from reverie.samplers import DDIM
from reverie.sampling import generate
from reverie.schedules import LinearVP
from reverie.tensors import host

TIMES = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=DOUBLE)
COND = Cond(label=torch.tensor([0, 1, 1, 0]))
X = randn(4, 2, seed=1)


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


def test_an_example_whose_condition_is_dropped_is_not_guided():
    f = labelled(LinearVP())
    cond = Cond(label=COND.label, drop=torch.tensor([True, False, False, True]))
    q, free, whole = ClassifierFree(f, 3.0)(X, TIMES, cond), f(X, TIMES), ClassifierFree(f, 3.0)(X, TIMES, COND)
    assert close(q.x0[[0, 3]], free.x0[[0, 3]])
    assert close(q.x0[[1, 2]], whole.x0[[1, 2]])


def test_a_batch_of_one_and_one_time_for_all():
    f = ClassifierFree(labelled(LinearVP()), 2.0)
    for i in range(4):
        one = Cond(label=COND.label[i : i + 1])
        for t in (TIMES[i], TIMES[i : i + 1]):
            assert close(f(X[i : i + 1], t, one).x0[0], f(X, TIMES, COND).x0[i])
    assert close(f(X, TIMES[:1], COND).x0, f(X, TIMES[0], COND).x0)


def test_the_variance_is_that_of_the_condition():
    class WithVariance:
        schedule = LinearVP()

        def __call__(self, x, t, cond=None):
            q = labelled(self.schedule)(x, t, cond)
            return Prediction(q.x, q.level, q.x0, q.eps, 1 - cond.drop.double()[:, None].expand_as(x))

    assert ClassifierFree(WithVariance(), 2.0)(X, TIMES, COND).var.eq(1).all()
    assert ClassifierFree(labelled(LinearVP()), 2.0)(X, TIMES, COND).var is None


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


class Saying:
    """A labelled mixture that tells its prediction in one notation."""

    def __init__(self, notation):
        self.data, self.notation, self.calls = labelled(LinearVP()), notation, []
        self.schedule = self.data.schedule

    def __call__(self, x, t, cond=None):
        self.calls.append(len(x))
        q = self.data(x, t, cond)
        return (
            q
            if self.notation is None
            else getattr(Prediction, f"from_{self.notation}")(getattr(q, self.notation), x, q.level)
        )


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
    with pytest.raises(ValueError, match="0 or more"):
        ClassifierFree(mixture(LinearVP()), 2.0, together=-1)
