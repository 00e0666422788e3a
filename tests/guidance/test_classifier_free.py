import pytest
import torch
from helpers import DOUBLE, close, every_schedule, labelled, mixture, randn

from reverie.conditioning import Cond
from reverie.denoiser import Clipped
from reverie.guidance import ClassifierFree
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


def test_scale_is_the_only_setting():
    with pytest.raises(TypeError):
        ClassifierFree(mixture(LinearVP()), scal=2.0)
