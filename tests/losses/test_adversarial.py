import pytest
import torch
import torch.nn.functional as F
from helpers import close, named, randn, seeded

from reverie.losses.adversarial import Critic, critic_term, generator_term, untouched

SHAPES = named(wave=(2, 16), image=(3, 8, 8), video=(2, 3, 8, 8))


def critic(shape=(3, 8, 8)):
    torch.manual_seed(0)
    return Critic(shape).double()


@pytest.mark.parametrize(
    ("shape", "patches"),
    [
        ((3, 64, 64), (8, 8)),
        ((3, 32, 32), (8, 8)),
        ((3, 16, 16), (8, 8)),
        ((1, 8, 8), (4, 4)),
        ((1, 3, 5), (3, 5)),
        ((3, 48, 20), (12, 5)),
        ((1, 256), (32,)),
        ((3, 5, 32, 32), (5, 8, 8)),
    ],
)
def test_patches_are_smaller_than_the_example_and_not_few(shape, patches):
    with torch.device("meta"):
        assert Critic(shape)(torch.empty(2, *shape)).shape == (2, 1, *patches)


@pytest.mark.parametrize("shape", **SHAPES)
def test_each_example_is_judged_alone(shape):
    judge, x = critic(shape), randn(5, *shape, seed=1)
    together = judge(x)
    for i in range(5):
        assert close(judge(x[i : i + 1]), together[i : i + 1], 1e-10)
    assert together.flatten(1).std(1).min() > 1e-6


def test_the_hinge_is_as_written():
    judge, real, made = critic(), 8 * randn(5, 3, 8, 8, seed=1), randn(5, 3, 8, 8, seed=2)
    with torch.no_grad():
        judge.layers[-1].weight *= 10  # so that some judgements lie beyond the margin
        right, wrong = judge(real), judge(made)
    assert (right > 1).any()
    assert (wrong < -1).any()
    expected = ((1 - right).clamp(min=0).mean((1, 2, 3)) + (1 + wrong).clamp(min=0).mean((1, 2, 3))) / 2
    assert close(critic_term(judge, real, made), expected, 1e-10)


def test_the_generators_gradient_is_that_of_the_judgement_and_reaches_no_critic():
    judge, made = critic(), randn(5, 3, 8, 8, seed=2).requires_grad_()
    term = generator_term(judge, made)
    expected = -judge(made).mean((1, 2, 3))
    assert close(term, expected, 1e-12)
    (found,) = torch.autograd.grad(term.sum(), made, retain_graph=True)
    (alone,) = torch.autograd.grad(expected.sum(), made)
    assert found.abs().max() > 1e-6
    assert close(found, alone, 1e-12)
    term.sum().backward()
    assert all(p.grad is None for p in judge.parameters())


def test_the_critics_gradient_reaches_the_critic_alone():
    judge = critic()
    real, made = (randn(5, 3, 8, 8, seed=s).requires_grad_() for s in (1, 2))
    critic_term(judge, real, made).sum().backward()
    assert real.grad is None
    assert made.grad is None
    learns = [p.grad.abs().max() > 0 for p in judge.parameters()]
    assert all(learns[:-1])  # the last bias moves both judgements alike, while they are within the margin


def test_a_critic_untouched_has_gradients_that_are_zero():
    judge = critic()
    nothing = untouched(judge)
    nothing.backward()
    assert nothing.item() == 0
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in judge.parameters())


def test_it_learns_to_tell_smooth_from_rough_and_its_gradient_shows_the_way():
    judge, g = critic().float(), seeded(3)
    optimizer = torch.optim.Adam(judge.parameters(), 1e-3)

    def pair(n):
        rough = torch.randn(n, 3, 8, 8, generator=g)
        return 4 * F.interpolate(F.avg_pool2d(rough, 4), scale_factor=4), rough  # as large, and constant in patches

    for _ in range(30):
        real, made = pair(16)
        optimizer.zero_grad()
        critic_term(judge, real, made).mean().backward()
        optimizer.step()
    real, made = pair(200)
    with torch.no_grad():
        assert critic_term(judge, real, made).mean() < 0.2  # 1 is knowing nothing
    made.requires_grad_()
    (gradient,) = torch.autograd.grad(generator_term(judge, made).sum(), made)
    better = made - 0.5 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    assert (generator_term(judge, better) < generator_term(judge, made)).all()


@pytest.mark.parametrize("shape", [(6,), (3, 2, 2, 2, 2)])
def test_examples_without_patches_are_refused(shape):
    with pytest.raises(ValueError, match=r"leave loss\.adversarial at 0"):
        Critic(shape)
