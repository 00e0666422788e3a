import math

import pytest
import torch
from guided import COND, DROP, LABEL, TIMES, Deaf, Encoded, LinearClassifier, X
from helpers import DOUBLE, cases, close, every_schedule, gaussian, labelled, randn

from reverie.conditioning import Cond
from reverie.denoiser import FixedRows
from reverie.exact import GaussianMixture
from reverie.guidance import ClassifierFree, ClassifierGuided
from reverie.parameterizations import Parameterization
from reverie.samplers import Heun
from reverie.sampling import generate, prior
from reverie.schedules import VE, Cosine, Flow, LinearVP
from reverie.tensors import host

ALL = (TIMES, *TIMES)


def one_for_each_class(schedule):
    means, stds = randn(2, 2, seed=3), torch.tensor([[0.5, 0.8], [0.7, 0.4]], dtype=DOUBLE)
    return GaussianMixture(schedule, means, stds, torch.tensor([0.3, 0.7]), labels=torch.tensor([0, 1]))


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_score_is_that_of_the_tilted_density_of_gaussians(schedule):
    # p(x) p(c | x)^w = p(x)^(1 - w) (p(c) p(x | c))^w, all of them Gaussians and a sum of two.
    f = one_for_each_class(schedule)
    for t in ALL:
        level = schedule.at(t, like=X)
        variance = (level.alpha.reshape(-1, 1, 1) * f.stds) ** 2 + level.sigma.reshape(-1, 1, 1) ** 2
        residual = X[:, None] - level.alpha.reshape(-1, 1, 1) * f.means
        share = f.weights * (-residual.square() / variance / 2).exp().prod(2) / variance.prod(2).sqrt()
        share = (share / share.sum(1, keepdim=True))[..., None]
        scores = -residual / variance
        for w in (0.0, 1.0, 2.5):
            tilted = (1 - w) * (share * scores).sum(1) + w * scores[torch.arange(4), LABEL]
            q = ClassifierGuided(Deaf(f), f.classifier(), w)(X, t, COND)
            assert close(level.sigma * q.score, level.sigma * tilted, 1e-10)
            assert close(level.alpha * q.x0 + level.sigma * q.eps, X, 1e-10)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_it_is_classifier_free_guidance_with_the_same_conditional(schedule):
    f = labelled(schedule)
    for t in ALL:
        q = ClassifierGuided(Deaf(f), f.classifier(), 1.0)(X, t, COND)
        assert close(q.level.alpha * q.x0, q.level.alpha * f(X, t, COND).x0, 1e-10)
        for w in (0.0, 3.0):
            p, q = ClassifierFree(f, w)(X, t, COND), ClassifierGuided(Deaf(f), f.classifier(), w)(X, t, COND)
            assert close(q.level.alpha * q.x0, q.level.alpha * p.x0, 1e-10)
            assert close(q.eps, p.eps, 1e-10)
        q = ClassifierGuided(f, f.classifier(), 2.0)(X, t, COND)  # the conditional model itself guided: 1 + 2
        assert close(q.eps, p.eps, 1e-10)


@pytest.mark.parametrize("parameterization", **cases(Parameterization))
def test_it_is_the_same_in_every_notation(parameterization):
    f = labelled(LinearVP())
    for t in ALL:
        for guided in (lambda g: ClassifierGuided(Deaf(g), f.classifier(), 2.5), lambda g: ClassifierFree(g, 2.5)):
            q, p = guided(Encoded(f, parameterization))(X, t, COND), guided(f)(X, t, COND)
            assert close(q.x0, p.x0, 1e-9)
            assert close(q.eps, p.eps, 1e-9)


@pytest.mark.parametrize("own", [VE(), Flow(), Cosine()])
def test_a_classifier_of_another_schedule_is_asked_at_the_same_noise_level(own):
    f = labelled(LinearVP())
    for t in ALL:
        q = ClassifierGuided(Deaf(f), labelled(own).classifier(), 2.0)(X, t, COND)
        assert close(q.eps, ClassifierFree(f, 2.0)(X, t, COND).eps, 1e-9)


def test_logits_need_not_be_normalized():
    f = labelled(LinearVP())
    exact = f.classifier()

    class Shifted:
        schedule = f.schedule

        def __call__(self, x, t):
            return exact(x, t) + x.square().sum(1, keepdim=True)

    assert close(
        ClassifierGuided(f, Shifted(), 2.0)(X, TIMES, COND).x0, ClassifierGuided(f, exact, 2.0)(X, TIMES, COND).x0
    )


def test_where_there_is_no_label_nothing_is_guided():
    f = labelled(LinearVP())
    g = ClassifierGuided(f, f.classifier(), 2.0)
    for cond in (None, Cond(), Cond(drop=DROP)):
        assert torch.equal(g(X, TIMES, cond).x0, f(X, TIMES).x0)
    strange = Cond(label=torch.where(DROP, -1, LABEL), drop=DROP)
    q, free = g(X, TIMES, strange), f(X, TIMES)
    assert torch.equal(q.x0[DROP], free.x0[DROP])
    assert torch.equal(q.eps[DROP], free.eps[DROP])
    assert close(q.x0[~DROP], g(X, TIMES, COND).x0[~DROP])


def test_where_x_holds_nothing_of_the_data_nothing_moves():
    f = labelled(Flow())
    g = ClassifierGuided(f, f.classifier(), 2.0)
    t = torch.tensor([1.0, 0.5, 1.0, 0.5]).double()
    q, p, half = g(X, t, COND), f(X, t, COND), g(X, t[1], COND)
    assert torch.equal(q.x0[::2], p.x0[::2])
    assert torch.equal(q.eps[::2], p.eps[::2])
    assert close(q.x0[1::2], half.x0[1::2])
    assert torch.equal(g(X, t[0], COND).x0, f(X, t[0], COND).x0)


def test_the_classifier_sees_the_rows_that_the_denoiser_does():
    f, seen = labelled(LinearVP()), []
    exact = f.classifier()

    class Counting:
        schedule = f.schedule

        def __call__(self, x, t):
            seen.append(len(x))
            return exact(x, t)

    g = ClassifierGuided(ClassifierFree(FixedRows(f, 3), 1.0), Counting(), 2.0)
    q = g(X, TIMES, COND)
    assert seen == [3, 3]
    assert close(q.x0, ClassifierGuided(f, exact, 2.0)(X, TIMES, COND).x0)
    assert close(g(X, TIMES[:1], COND).x0, g(X, TIMES[0], COND).x0)
    for i in range(4):  # bit for bit, in any batch
        assert torch.equal(g(X[i:], TIMES[i:], COND[i:]).x0[0], q.x0[i])


def test_a_linear_classifier_tilts_a_gaussian():
    """The mean moves by scale slope std^2 and the variance stays, at every noise level and so in the samples.

    Six statistics of 4000 samples, each within 5 standard errors: a false alarm of 4e-6.
    """
    data, slope, w, n = gaussian(LinearVP()), torch.tensor([0.5, -1.0, 0.3]).double(), 1.7, 4000
    law = LinearClassifier(data, slope)
    f, tilted = ClassifierGuided(data, law, w), law.tilted(w)
    x = randn(5, 3)
    for t in (0.01, 0.3, 0.7, 1.0):
        label = Cond(label=torch.zeros(5, dtype=torch.int64))
        assert close(f(x, host(t), label).score, tilted(x, host(t)).score, 1e-9)
    times = torch.linspace(1, 0, 31, dtype=DOUBLE) ** 2
    start = prior(data.schedule, 1.0, torch.empty(n, 3, dtype=DOUBLE), lambda like: randn(*like.shape, seed=4))
    made = generate(f, Heun(), times, start, Cond(label=torch.zeros(n, dtype=torch.int64)))
    mean, std = tilted.means[0], tilted.stds[0]
    assert float((mean - data.means[0]).abs().min()) > 0.2
    assert bool(((made.mean(0) - mean).abs() < 5 * std / math.sqrt(n)).all())
    assert bool((made.var(0) / std**2 - 1).abs().lt(5 * math.sqrt(2 / n)).all())
