import math

import pytest
import torch
from helpers import DOUBLE, close, every_schedule, gaussian, labelled, mixture, randn

from reverie.conditioning import Cond
from reverie.exact import FiniteData, Gaussian, GaussianMixture
from reverie.samplers import Heun
from reverie.sampling import generate
from reverie.schedules import VE, Cosine, Flow, LinearVP
from reverie.tensors import host

TIMES = torch.tensor([0.05, 0.3, 0.6, 0.9], dtype=DOUBLE)


def tweedie(f, x, t, cond=None):
    """x0 = (x + sigma^2 grad log p) / alpha, the gradient by automatic differentiation of log_density."""
    x = x.clone().requires_grad_()
    (score,) = torch.autograd.grad(f.log_density(x, t, cond).sum(), x)
    level = f.schedule.at(t, like=x)
    return (x.detach() + level.sigma**2 * score) / level.alpha, score


@pytest.mark.parametrize("schedule", **every_schedule)
@pytest.mark.parametrize("make", [mixture, labelled, gaussian])
def test_x0_is_tweedies_of_the_density(schedule, make):
    f = make(schedule)
    x = 1.3 * randn(4, f.means.shape[1], seed=1)
    for t in (TIMES, *TIMES):
        x0, score = tweedie(f, x, t)
        q = f(x, t)
        assert close(q.level.alpha * q.x0, q.level.alpha * x0, 1e-11)
        assert close(q.level.sigma * q.score, q.level.sigma * score, 1e-10)
        assert close(q.level.alpha * q.x0 + q.level.sigma * q.eps, x, 1e-12)


def test_a_class_is_the_mixture_of_its_own_components():
    f = labelled(LinearVP())
    alone = GaussianMixture(LinearVP(), f.means[[0, 2]], f.stds[[0, 2]], f.weights[[0, 2]])
    x, cond = randn(4, 2), Cond(label=torch.zeros(4, dtype=torch.int64))
    assert close(f(x, TIMES, cond).x0, alone(x, TIMES).x0)
    dropped = Cond(label=torch.tensor([0, 0, 1, 1]), drop=torch.tensor([True, False, True, False]))
    q = f(x, TIMES, dropped)
    assert close(q.x0[[0, 2]], f(x, TIMES).x0[[0, 2]])
    assert close(q.x0[1], alone(x, TIMES).x0[1])
    assert close(f.log_density(x, 0.5, cond), alone.log_density(x, 0.5), 1e-12)
    assert close(f.log_density(x, 0.5, dropped)[[0, 2]], f.log_density(x, 0.5)[[0, 2]], 1e-12)
    assert not close(q.x0[3], f(x, TIMES).x0[3], 1e-3)
    assert close(tweedie(f, x, TIMES, dropped)[0], q.x0, 1e-10)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.8])
def test_density_integrates_to_one(t):
    f = GaussianMixture(
        Flow(), torch.tensor([[-1.0], [2.0]]).double(), torch.tensor([0.3, 0.8]), torch.tensor([1.0, 3])
    )
    x = torch.linspace(-12, 12, 24_001, dtype=DOUBLE)
    density = f.log_density(x[:, None], t).exp()
    assert float(torch.trapezoid(density, x)) == pytest.approx(1, abs=1e-10)
    level = Flow().at(host(t), x)
    mean = level.alpha * (0.25 * -1 + 0.75 * 2)
    assert float(torch.trapezoid(density * x, x)) == pytest.approx(float(mean), abs=1e-9)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_finite_data_is_the_brute_force_posterior_mean(schedule):
    data, x = randn(5, 3, 2, seed=3), randn(4, 3, 2, seed=4)
    f = FiniteData(schedule, data)
    for t in TIMES:
        a, b = float(schedule.alpha(t)), float(schedule.sigma(t))
        q = f(b * x, t)
        for i in range(4):
            off = torch.stack([((b * x[i] - a * d) ** 2).sum() for d in data]) / (2 * b * b)
            w = (-(off - off.min())).exp()
            w = w / w.sum()
            assert close(q.x0[i], sum(w[k] * data[k] for k in range(5)), 1e-9)


def test_finite_data_by_class():
    data = randn(4, 2, seed=3)
    f = FiniteData(Cosine(), data, labels=torch.tensor([0, 1, 0, 2]))
    q = f(randn(3, 2), TIMES[:3], Cond(label=torch.tensor([1, 2, 2])))
    assert close(q.x0, data[[1, 3, 3]])


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_flow_of_a_gaussian_is_a_semigroup_that_fine_heun_follows(schedule):
    f, x = gaussian(schedule), randn(5, 3)
    x = x * schedule.sigma(host(0.9))
    half = f.solution(x, 0.9, 0.4)
    assert close(f.solution(half, 0.4, 0.1), f.solution(x, 0.9, 0.1), 1e-11)
    assert close(f.solution(f.solution(x, 0.9, 0.0), 0.0, 0.9), x, 1e-11)
    times = torch.linspace(0.9, 0.4, 1001, dtype=DOUBLE)
    assert close(generate(f, Heun(), times, x), half, 1e-4)
    # It carries the law at t to the law at s.
    z = f.solution(schedule.alpha(host(0.9)) * f.means[0] + x, 0.9, 0.4) - schedule.alpha(host(0.4)) * f.means[0]
    assert close(z, x * (variance(f, 0.4) / variance(f, 0.9)).sqrt(), 1e-11)


def variance(f, t):
    return f.schedule.alpha(host(t)) ** 2 * f.stds[0] ** 2 + f.schedule.sigma(host(t)) ** 2


def test_samples_have_the_moments_of_the_mixture():
    f = mixture(VE())
    n = 100_000
    x = f.sample(n, torch.Generator().manual_seed(0))
    mean = (f.weights[:, None] * f.means).sum(0)
    second = (f.weights[:, None] * (f.means**2 + f.stds**2)).sum(0)
    assert close(x.mean(0), mean, 5 * 1.5 / math.sqrt(n))
    assert close((x**2).mean(0), second, 5 * 4 / math.sqrt(n))
    assert torch.equal(x, f.sample(n, torch.Generator().manual_seed(0)))


def test_weights_are_scaled_and_equal_unless_given():
    means = randn(3, 2)
    assert close(GaussianMixture(VE(), means, 1.0).weights, [1 / 3] * 3)
    assert close(GaussianMixture(VE(), means, 1.0, torch.tensor([1, 2, 1])).weights, [0.25, 0.5, 0.25])
    assert close(Gaussian(VE(), means[0], 2.0).stds, torch.full((1, 2), 2.0))


def test_predictions_have_the_dtype_of_x():
    f = mixture(LinearVP())
    q = f(torch.zeros(3, 2), torch.tensor(0.3))
    assert q.x0.dtype == q.eps.dtype == torch.float32
    assert close(q.x0, f(torch.zeros(3, 2, dtype=DOUBLE), torch.tensor(0.3)).x0, 1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"stds": -1.0},
        {"stds": 1.0, "weights": torch.tensor([1.0, 0.0])},
        {"stds": 1.0, "weights": torch.tensor([1.0, -1.0])},
        {"stds": 1.0, "weights": torch.tensor([1.0, 1.0, 1.0])},
    ],
)
def test_what_is_no_mixture_is_refused(settings):
    with pytest.raises(ValueError, match="2 means need 2 positive weights"):
        GaussianMixture(VE(), torch.zeros(2, 3), **settings)
    GaussianMixture(VE(), torch.zeros(2, 3), 0.0)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_classifier_is_bayes_rule(schedule):
    f = labelled(schedule)
    classify, x = f.classifier(), schedule.sigma(host(0.5)) * randn(4, 2, seed=2)
    prior = torch.stack([f.weights[f.labels == k].sum() for k in (0, 1)]).log()
    for t in (TIMES, TIMES[2]):
        joint = torch.stack([f.log_density(x, t, Cond(label=torch.full((4,), k))) for k in (0, 1)], 1) + prior
        assert close(classify(x, t), joint - f.log_density(x, t)[:, None], 1e-11)
        assert close(classify(x, t).exp().sum(1), torch.ones(4))
    assert classify.schedule is schedule
    assert classify(x.float(), TIMES).dtype == torch.float32


def test_a_classifier_needs_classes_from_0_on():
    for labels in (None, torch.tensor([1, 2])):
        with pytest.raises(ValueError, match="classes from 0 on"):
            GaussianMixture(VE(), torch.zeros(2, 3), 1.0, labels=labels).classifier()
