import math

import pytest
import torch
from helpers import DOUBLE, labelled, noise_from, randn, seeded

from reverie.conditioning import Cond
from reverie.losses import UniformTimes
from reverie.losses.cross_entropy import CrossEntropy
from reverie.losses.resampling import Resampled
from reverie.losses.uncertainty import Uncertain
from reverie.prediction import Prediction
from reverie.schedules import Cosine, Flow

N = 20_000


class Bayes:
    """The exact posterior of a labelled mixture, its logits moved by `error`."""

    def __init__(self, schedule, error=None):
        self.schedule, self.mixture, self.error = schedule, labelled(schedule), error
        prior = [self.mixture.weights[self.mixture.labels == k].sum() for k in (0, 1)]
        self.prior = torch.stack(prior).log()

    def __call__(self, x, t):
        of_class = [self.mixture.log_density(x, t, Cond(label=torch.full((len(x),), k))) for k in (0, 1)]
        logits = torch.stack(of_class, 1) + self.prior
        return logits if self.error is None else logits + self.error * torch.tanh(x)


def drawn(schedule, seed=0):
    """A sample of the mixture with its classes, and u."""
    mixture, g = labelled(schedule), seeded(seed)
    k = torch.multinomial(mixture.weights, N, replacement=True, generator=g)
    x0 = mixture.means[k] + mixture.stds[k] * torch.randn((N, 2), dtype=DOUBLE, generator=g)
    return x0, Cond(label=mixture.labels[k]), torch.rand(N, dtype=DOUBLE, generator=g)


@pytest.mark.parametrize("schedule", [Flow(), Cosine()], ids=["flow", "cosine"])
def test_the_posterior_of_bayes_is_the_least(schedule):
    x0, cond, u = drawn(schedule)
    loss, eps = CrossEntropy(), randn(N, 2, seed=3)
    exact = Bayes(schedule)
    value = loss(exact, x0, u, cond, lambda like: eps)
    t = UniformTimes()(u, schedule)
    x = Prediction.of(x0, eps, schedule.at(t, like=x0)).x
    p = exact(x, t).softmax(1)
    entropy = -(p * p.log()).sum(1)  # its mean is the conditional entropy, whatever the classes turned out to be
    difference = value - entropy
    assert abs(difference.mean()) < 4.5 * difference.std() / math.sqrt(N)  # false alarm 7e-6
    error = torch.zeros(1, 2, dtype=DOUBLE, requires_grad=True)
    moved = loss(Bayes(schedule, error), x0, u, cond, lambda like: eps)
    (gradient,) = torch.autograd.grad(moved.mean(), error)
    truth = torch.nn.functional.one_hot(cond.label, 2)
    spread = ((p - truth) * x.tanh()).std(0) / math.sqrt(N)
    assert bool((gradient.abs() < 4.5 * spread).all())
    for wrong in ([0.5, 0.0], [0.0, -0.5]):
        worse = loss(Bayes(schedule, torch.tensor(wrong, dtype=DOUBLE)), x0, u, cond, lambda like: eps)
        excess = worse - value
        assert excess.mean() > 4.5 * excess.std() / math.sqrt(N)


def test_a_hidden_class_counts_nothing():
    schedule = Flow()
    x0, cond, u = (v[:6] for v in drawn(schedule))
    drop = torch.tensor([False, True, False, False, True, False])
    value = CrossEntropy()(Bayes(schedule), x0, u, cond, noise_from(seeded(1)))
    told = Cond(label=torch.where(drop, -1, cond.label), drop=drop)
    hidden = CrossEntropy()(Bayes(schedule), x0, u, told, noise_from(seeded(1)))
    assert torch.equal(hidden, torch.where(drop, 0.0, value))
    with pytest.raises(ValueError, match="labels"):
        CrossEntropy()(Bayes(schedule), x0, u, None)


def test_losses_around_it_train_what_it_trains():
    assert CrossEntropy().trains == Resampled(CrossEntropy()).trains == Uncertain(CrossEntropy()).trains == "classifier"
    assert CrossEntropy().times_at(torch.tensor([0.25], dtype=DOUBLE), Flow()).item() == pytest.approx(0.75, abs=1e-4)
