import pytest
import torch
from guided import COND, DROP, LABEL, Deaf, Encoded, X
from helpers import DOUBLE, close, labelled, noise_from, randn, seeded

from reverie.conditioning import Cond
from reverie.guidance import ClassifierGuided, LabelPull, MeanGuided
from reverie.parameterizations import LearnedVariance
from reverie.samplers import Ancestral
from reverie.sampling import generate
from reverie.schedules import Table
from reverie.tensors import host

SCHEDULE = Table.linear(20, 0.005, 0.2)
DATA = labelled(SCHEDULE)
KNOTS = torch.arange(20, -1, -1, dtype=DOUBLE) / 20


def of(k):
    """The betas of the chain and the products of 1 - beta up to k, from 1."""
    betas = [0.005 + (0.2 - 0.005) * i / 19 for i in range(20)]
    products = torch.cumprod(1 - torch.tensor(betas, dtype=DOUBLE), 0)
    return betas[k - 1], float(products[k - 1]), float(products[k - 2]) if k > 1 else 1.0


def gradient(x, k):
    """Of log p(label | x_k), in the chain's own letters."""
    leaf = x.clone().requires_grad_()
    log = DATA.log_density(leaf, KNOTS[20 - k], COND) - DATA.log_density(leaf, KNOTS[20 - k])
    return torch.autograd.grad(log.sum(), leaf)[0]


@pytest.mark.parametrize(("f", "fraction", "own"), [
    (Deaf(DATA), 0.0, 0.0), (Deaf(DATA), 1.0, 1.0), (Encoded(Deaf(DATA), LearnedVariance()), 0.0, 0.65)
])  # fmt: skip
def test_it_is_algorithm_1_of_adm(f, fraction, own):
    sampler, scale = MeanGuided(LabelPull(DATA.classifier()), 2.5, fraction), 2.5
    for k in (20, 7, 2):
        beta, bar, before = of(k)
        x0 = DATA(X, KNOTS[20 - k]).x0
        mu = (before**0.5 * beta * x0 + (1 - beta) ** 0.5 * (1 - before) * X) / (1 - bar)
        tilde = beta * (1 - before) / (1 - bar)
        sigma = torch.tensor(beta**own * tilde ** (1 - own), dtype=DOUBLE)
        z = randn(4, 2, seed=k)
        made, _ = sampler.step(f, X, KNOTS[20 - k], KNOTS[21 - k], COND, lambda like, z=z: z, None)
        assert close(made, mu + scale * sigma * gradient(X, k) + sigma.sqrt() * z, 1e-9)


def test_for_small_steps_it_is_the_guided_denoiser():
    pull = LabelPull(DATA.classifier())
    wrapped, t = ClassifierGuided(Deaf(DATA), DATA.classifier(), 2.0), host(0.5)
    gaps = []
    for step in (0.02, 0.01, 0.005):

        def move(sampler, f, s=t - step):
            return sampler.step(f, X, t, s, COND, torch.zeros_like, None)[0]

        plain = move(Ancestral(1.0), Deaf(DATA))
        a = move(Ancestral(1.0), wrapped) - plain
        b = move(MeanGuided(pull, 2.0, 1.0), Deaf(DATA)) - plain
        ratio = SCHEDULE.alpha(t - step) / SCHEDULE.alpha(t)
        assert close(a, ratio * b, 1e-11)
        gaps.append(float((a / b - 1).abs().max()))
    assert gaps[0] / gaps[1] == pytest.approx(2, abs=0.1)
    assert gaps[1] / gaps[2] == pytest.approx(2, abs=0.1)
    assert gaps[2] < 0.01


def test_what_has_no_label_is_drawn_as_without_it():
    def draw(sampler, cond):
        return generate(DATA, sampler, KNOTS, X, cond, noise_from(seeded(1)))

    sampler = MeanGuided(LabelPull(DATA.classifier()), 2.0)
    assert torch.equal(draw(sampler, None), draw(Ancestral(), None))
    cond = Cond(label=LABEL, drop=DROP)
    assert torch.equal(draw(sampler, cond)[DROP], draw(Ancestral(), cond)[DROP])
    assert not close(draw(sampler, cond)[~DROP], draw(Ancestral(), cond)[~DROP], 1e-2)
