import math

import pytest
import torch
from helpers import DOUBLE, close, every_schedule, noise_from, seeded, stirred

from reverie.conditioning import Cond
from reverie.losses.cross_entropy import CrossEntropy
from reverie.models import NoisyClassifier
from reverie.nets import DiTConfig, MLPConfig
from reverie.schedules import VE, Flow
from reverie.tensors import host
from reverie.time_labels import LogSNR

DIT = DiTConfig(width=16, depth=2, heads=2)


def classifier(schedule=None, net=DIT, shape=(3, 4, 4), classes=5):
    torch.manual_seed(0)
    return NoisyClassifier.build(net, shape, classes, schedule or Flow(), LogSNR())


@pytest.mark.parametrize("net", [DIT, MLPConfig(16, 1)], ids=["dit", "mlp"])
def test_before_training_all_classes_are_as_likely_and_everything_can_learn(net):
    f, x, t = classifier(net=net), torch.randn(4, 3, 4, 4, generator=seeded(1)), host([0.1, 0.5, 0.9, 1.0])
    assert torch.equal(f(x, t), torch.zeros(4, 5))
    optimizer = torch.optim.SGD(f.parameters(), 0.1)
    for _ in range(4):  # what starts at 0 lets the gradient through one layer after the other
        optimizer.zero_grad()
        CrossEntropy()(f, x, t, Cond(label=torch.arange(4)), noise_from(seeded(2))).mean().backward()
        optimizer.step()
    still = {n for n, p in f.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)}
    assert not still


@pytest.mark.parametrize("schedule", **every_schedule)
def test_what_the_network_sees_of_unit_data_has_unit_variance_at_every_time(schedule):
    f, x0 = classifier(schedule, MLPConfig(8, 1), (2,)), torch.randn(20_000, 2, dtype=DOUBLE, generator=seeded(1))
    for t in map(host, (0.1, 0.6, 1.0)):
        x = schedule.alpha(t) * x0 + schedule.sigma(t) * torch.randn(x0.shape, dtype=DOUBLE, generator=seeded(2))
        seen, label = f.seen(x, t)
        assert close(seen.var(), 1.0, 0.05)  # 40,000 numbers: seven standard deviations
        assert close(label, LogSNR()(schedule.at(t, like=x)).expand(len(x)), 1e-6)


def test_each_example_stands_alone_and_may_have_a_time_of_its_own():
    f = stirred(classifier())
    x, t = torch.randn(4, 3, 4, 4, dtype=DOUBLE, generator=seeded(1)), host([0.1, 0.5, 0.9, 1.0])
    together = f(x, t)
    for i in range(4):
        assert close(f(x[i : i + 1], t[i]), together[i : i + 1])
    assert f(x.float(), t).dtype == torch.float32
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(f(x, t).log_softmax(1)[:, 2].sum(), x)
    assert bool((gradient.flatten(1).norm(dim=1) > 0).all())


def test_right_is_the_share_of_likeliest_classes_that_are_the_true_ones():
    f = stirred(classifier())
    x, t = torch.randn(6, 3, 4, 4, dtype=DOUBLE, generator=seeded(1)), host(0.5)
    best = f(x, t).argmax(1)
    label = torch.where(torch.arange(6) < 4, best, (best + 1) % 5)
    assert f.right(x, t, Cond(label=label)).tolist() == [1, 1, 1, 1, 0, 0]
    hidden = f.right(x, t, Cond(label=label, drop=torch.arange(6) == 0))
    assert hidden.isnan().tolist() == [True] + 5 * [False]


def test_checkpointing_and_constraints_reach_the_backbone():
    f = classifier()
    f.net.checkpointing = True
    assert f.net.backbone.checkpointing
    f.net.constrain()
    with pytest.raises(ValueError, match=r"two classes; these have 1, and attributes are no classes: .* data\.labels"):
        classifier(classes=1)


def test_trained_on_two_gaussians_it_is_as_right_as_bayes_at_every_level():
    """Data N(+-m, s^2 I): accuracy Phi(alpha |m| / sqrt(alpha^2 s^2 + sigma^2)), as the best boundary is a plane."""
    schedule, mean, s, n = VE(), torch.tensor([0.9, 0.6]), 0.5, 20_000
    f = classifier(schedule, MLPConfig(16, 1), (2,), 2)
    optimizer, g = torch.optim.Adam(f.parameters(), 0.01), seeded(3)

    def drawn(n):
        label = torch.randint(2, (n,), generator=g)
        x0 = (2 * label[:, None] - 1) * mean + s * torch.randn(n, 2, generator=g)
        return x0, Cond(label=label)

    loss = CrossEntropy()
    for _ in range(250):
        x0, cond = drawn(128)
        value = loss(f, x0, torch.rand(128, dtype=DOUBLE, generator=g), cond, noise_from(g))
        optimizer.zero_grad()
        value.mean().backward()
        optimizer.step()
    x0, cond = drawn(n)
    for sigma in (0.1, 0.5, 1.0, 2.0, 5.0):
        t = schedule.time(host(-2 * math.log(sigma)))
        with torch.no_grad():
            found = float(f.right(x0 + sigma * torch.randn(n, 2, generator=g), t, cond).mean())
        best = float(torch.special.ndtr(host(float(mean.norm()) / math.sqrt(s**2 + sigma**2))))
        spread = math.sqrt(best * (1 - best) / n)
        assert best - 0.01 - 4.5 * spread < found < best + 4.5 * spread, (sigma, found, best)
