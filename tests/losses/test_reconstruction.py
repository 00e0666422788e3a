import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from helpers import DOUBLE, close, named, noise_from, randn, seeded
from torch import nn
from torch.distributions import Laplace, Normal, kl_divergence

from reverie.autoencoders import Rebuilt
from reverie.losses.adversarial import critic_term
from reverie.losses.reconstruction import Moves, Reconstruction
from reverie.models import NoisyClassifier
from reverie.nets import DiTConfig
from reverie.schedules import Flow
from reverie.time_labels import LogSNR

SHAPES = named(wave=(2, 12), image=(3, 8, 8), wide=(3, 4, 8), video=(2, 4, 6, 6))
U = torch.rand(64, dtype=DOUBLE, generator=seeded(9))


class Toy(nn.Module):
    """z = N(a x, s^2), x' = z b, number by number; `ramp` adds to x' what depends on the place."""

    def __init__(self, a=0.5, b=1.5, s=0.3, ramp=0.0, divergence=True):
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.tensor(v, dtype=DOUBLE)) for v in (a, b))
        self.s, self.ramp, self.net = s, ramp, SimpleNamespace(divergence=divergence)
        self.decoded = []

    def posterior(self, x):
        return Normal(self.a * x, self.s * torch.ones_like(x))

    def decode(self, z):
        self.decoded.append(z)
        return z * self.b + self.ramp * torch.arange(z[0].numel(), dtype=z.dtype).reshape(z.shape[1:])

    def rebuilt(self, x, noise=torch.randn_like):
        q = self.posterior(x)
        z = q.mean + q.stddev * noise(x)
        penalty = kl_divergence(q, Normal(0.0, 1.0)).flatten(1).sum(1)
        return Rebuilt(self.decode(z), z, penalty)


def exact():
    """An autoencoder without a fault, whose latents are not its data."""
    return Toy(2.0, 0.5, 1e-99)


class Brings:
    def __init__(self, shape, model=None):
        self.shape, self.model, self.asked = shape, model, []

    def stage(self, name):
        self.asked.append(name)
        return self.model


def value(loss, f, x, memory=None, seed=1):
    return loss(f, x, U[: len(x)], None, noise_from(seeded(seed)), memory)


def gradients(total, parameters):
    return torch.autograd.grad(total, list(parameters), retain_graph=True, allow_unused=True)


# ------------------------------------------------------------------------------ without a memory


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_it_is_kl_times_the_negative_bound_for_each_number(distance):
    """With an observation model of Laplace, of scale kl, or of Gauss, of variance kl / 2."""
    f, x, kl = Toy(), randn(5, 3, 4, 4, seed=2), 0.02
    made, n = f.rebuilt(x, noise_from(seeded(1))), 48
    seen = Laplace(made.x, kl) if distance == "l1" else Normal(made.x, math.sqrt(kl / 2))
    bound = seen.log_prob(x).flatten(1).sum(1) - kl_divergence(f.posterior(x), Normal(0.0, 1.0)).flatten(1).sum(1)
    constant = math.log(2 * kl) if distance == "l1" else math.log(math.pi * kl) / 2
    assert close(value(Reconstruction(distance, kl), f, x), kl * (-bound / n - constant), 1e-12)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_a_penalty_that_is_no_divergence_counts_as_it_is(distance):
    x = randn(5, 3, 4, 4, seed=2)
    bare = value(Reconstruction(distance, 0.0), Toy(), x)
    made = Toy().rebuilt(x, noise_from(seeded(1)))
    power = 1 if distance == "l1" else 2
    assert close(bare, (made.x - x).abs().pow(power).mean((1, 2, 3)), 1e-12)
    for kl in (0.0, 0.5):
        weighed = value(Reconstruction(distance, kl), Toy(divergence=False), x)
        assert close(weighed - bare, made.penalty, 1e-12)


def test_latents_of_unit_size_are_the_best_of_all_scales():
    x, loss = randn(50, 3, 4, 4, seed=2), Reconstruction(kl=0.1)
    size = float((0.5 * x).square().mean() + 0.3**2)  # of a draw

    def scaled(c):
        """The same autoencoder with latents c times as large."""
        return value(loss, Toy(0.5 * c, 1.5 / c, 0.3 * c), x).mean().item()

    best = size**-0.5
    assert abs(best - 1) > 0.5
    for c in (0.5, 0.99, 1.01, 2.0):
        assert scaled(best) < scaled(c * best) - 1e-7


def test_its_times_are_u_and_its_settings_are_checked():
    assert torch.equal(Reconstruction().times_at(U, Flow()), U)
    with pytest.raises(ValueError, match="l1 or l2; given 'l3'"):
        Reconstruction("l3")
    for name in ("kl", "perceptual_weight", "adversarial", "adversarial_after", "equivariance"):
        with pytest.raises(ValueError, match=f"{name} must be at least 0; given -1"):
            Reconstruction(**{name: -1})
    assert Reconstruction().positive
    assert not Reconstruction(adversarial=0.1).positive


# --------------------------------------------------------------------------------- equivariance


@pytest.mark.parametrize("shape", **SHAPES)
def test_an_equivariant_autoencoder_loses_nothing(shape):
    x = randn(40, *shape, seed=3)
    even, plain = Reconstruction(kl=0.0, equivariance=2.0), Reconstruction(kl=0.0)
    assert close(value(even, exact(), x), torch.zeros(40), 1e-15)
    uneven = Toy(2.0, 0.5, 1e-99, ramp=0.01)
    assert bool((value(even, uneven, x) > value(plain, uneven, x) + 1e-3).all())


def test_the_term_is_the_distance_of_what_is_moved_before_and_after():
    f, x = exact(), randn(8, 3, 4, 4, seed=3)
    f.ramp = 0.01
    chosen = list(itertools.product(range(4), (True, False)))
    uniform = torch.tensor([[(turn + 0.5) / 4, 0.25 if halve else 0.75] for turn, halve in chosen], dtype=DOUBLE)

    def noise(like):
        return torch.special.ndtri(uniform).to(like) if like.shape == (8, 2) else torch.zeros_like(like)

    bare = Reconstruction(kl=0.0)(f, x, U[:8], None, noise)
    found = Reconstruction(kl=0.0, equivariance=0.7)(f, x, U[:8], None, noise) - bare
    for i, (turn, halve) in enumerate(chosen):
        moved = [torch.rot90(a[i : i + 1], turn, (2, 3)) for a in (x, 2 * x)]
        moved = [F.avg_pool2d(a, 2) for a in moved] if halve else moved
        assert close(found[i], 0.7 * (f.decode(moved[1]) - moved[0]).abs().mean(), 1e-6)


def test_the_moves_of_an_example_are_its_own():
    x, loss = randn(16, 3, 8, 8, seed=3), Reconstruction(equivariance=1.0)
    drawn = {like: randn(16, *like, seed=4) for like in ((3, 8, 8), (2,))}

    def noise(first):
        return lambda like: drawn[tuple(like.shape[1:])][first : first + len(like)].to(like)

    whole = loss(Toy(ramp=0.01), x, U[:16], None, noise(0))
    for first in range(0, 16, 4):
        part = slice(first, first + 4)
        assert close(loss(Toy(ramp=0.01), x[part], U[part], None, noise(first)), whole[part], 1e-12)


@pytest.mark.parametrize(
    ("x", "z", "kinds", "even"),
    [
        ((3, 8, 8), (4, 2, 2), {0, 1, 2, 3}, (True, True)),
        ((3, 8, 4), (4, 4, 2), {0, 2}, (True, True)),
        ((3, 6, 6), (4, 3, 3), {0, 1, 2, 3}, (False, False)),
        ((2, 12), (4, 6), {0, 1}, (True,)),
        ((3, 3, 8, 8), (4, 3, 2, 2), set(range(8)), (False, True, True)),
    ],
)
def test_all_moves_that_fit_are_equally_likely(x, z, kinds, even):
    n = 4000
    moves = Moves.drawn(torch.zeros(n, *x), torch.zeros(n, *z), noise_from(seeded(5)))
    assert moves.even == even
    halved = (True, False) if any(even) else (False,)
    seen = list(zip(moves.turn, moves.halve, strict=True))
    share = 1 / (len(kinds) * len(halved))
    for kind in itertools.product(kinds, halved):
        assert abs(seen.count(kind) / n - share) < 4.5 * math.sqrt(share * (1 - share) / n)  # false alarm 7e-6
    assert {turn for turn, _ in seen} == kinds


@pytest.mark.parametrize("shape", **SHAPES)
def test_moves_keep_every_number_or_halve_every_even_side(shape):
    x = randn(32, *shape, seed=6)
    moves = Moves.drawn(x, x, noise_from(seeded(7)))
    for halve in (False, True):
        rows = [i for i in range(32) if moves.halve[i] == halve]
        made = moves.made(x, rows, halve)
        assert made.shape[2:] == tuple(n // 2 if halve else n for n in shape[1:])
        assert close(made.flatten(2).mean(2), x[rows].flatten(2).mean(2), 1e-12)
        if not halve:
            assert torch.equal(made.flatten(2).sort(2).values, x[rows].flatten(2).sort(2).values)


@pytest.mark.parametrize(("x", "z"), [((6,), (2,)), ((3, 8, 8), (16,))])
def test_latents_without_space_are_refused(x, z):
    with pytest.raises(ValueError, match=r"leave loss\.equivariance at 0"):
        Moves.drawn(torch.zeros(2, *x), torch.zeros(2, *z), torch.randn_like)


# --------------------------------------------------------------------------------- the judges


LOSS = Reconstruction(adversarial=0.3, adversarial_after=2)
X = randn(6, 3, 8, 8, seed=8)


def judged(loss=LOSS):
    torch.manual_seed(0)
    return loss.memory(Brings((3, 8, 8))).double()


def test_it_remembers_nothing_where_nothing_judges():
    assert Reconstruction(equivariance=1.0, adversarial_after=5).memory() is None
    with pytest.raises(ValueError, match="give memory"):
        LOSS.memory()


def test_before_it_is_on_a_critic_changes_nothing_and_has_a_gradient_of_zero():
    f, memory = Toy(), judged()
    for _ in range(2):
        found = value(LOSS, f, X, memory)
        assert torch.equal(found, value(LOSS, f, X))
        found.mean().backward()
        assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in memory.parameters())
        LOSS.observe(memory, U, found)
    assert not torch.equal(value(LOSS, f, X, memory), value(LOSS, f, X))
    assert not torch.equal(value(Reconstruction(adversarial=0.3), f, X, judged()), value(LOSS, f, X))


def test_the_steps_are_counted_on_after_a_restart():
    f, before, after = Toy(), judged(), judged()
    for _ in range(2):
        LOSS.observe(before, U, U)
    assert {name for name, _ in before.named_buffers()} == {"step"}
    after.load_state_dict(before.state_dict())
    assert torch.equal(value(LOSS, f, X, before), value(LOSS, f, X, after))
    assert not torch.equal(value(LOSS, f, X, after), value(LOSS, f, X))


def test_one_backward_pass_is_that_of_the_autoencoder_and_that_of_the_critic():
    f, loss = Toy(), Reconstruction(adversarial=0.3)
    memory = judged(loss)
    critic, both = memory.critic, value(loss, f, X, memory)
    made = f.rebuilt(X, noise_from(seeded(1))).x
    judgement = critic(made).mean((1, 2, 3))
    own = value(loss, f, X) - 0.3 * judgement
    hinge = critic_term(critic, X, made)
    assert close(both, own + hinge, 1e-12)
    by_f = gradients(both.mean(), f.parameters())
    by_critic = gradients(both.mean(), critic.parameters())
    for found, alone in zip(by_f, gradients(own.mean(), f.parameters()), strict=True):
        assert close(found, alone, 1e-12)
    for found, alone in zip(by_critic, gradients(hinge.mean(), critic.parameters()), strict=True):
        assert close(found, alone, 1e-12)
    # and neither of the two terms would leave the other one's parameters alone if it were not made to
    assert all(g.abs().max() > 1e-6 for g in gradients(own.mean(), critic.parameters())[:1])
    assert gradients(hinge.mean(), f.parameters()) == (None, None)
    assert all(float(g.abs()) > 1e-4 for g in gradients(judgement.mean(), f.parameters()))


def test_a_classifier_of_the_run_is_asked_for_and_its_distance_added():
    loss = Reconstruction(perceptual="runs/given", perceptual_weight=0.4)
    torch.manual_seed(0)
    classifier = NoisyClassifier.build(DiTConfig(width=16, depth=2, heads=2), (3, 8, 8), 3, Flow(), LogSNR()).double()
    brings, f = Brings((3, 8, 8), classifier), Toy()
    memory = loss.memory(brings)
    assert brings.asked == ["perceptual"]
    assert list(memory.parameters()) == []
    assert set(memory.state_dict()) == {"step"}
    extra = memory.perceptual(f.rebuilt(X, noise_from(seeded(1))).x, X)
    assert extra.min() > 1e-6
    assert close(value(loss, f, X, memory), value(loss, f, X) + 0.4 * extra, 1e-12)
    with pytest.raises(ValueError, match=r"runs/given is a classifier of examples of shape \(3, 8, 8\).*kind=classif"):
        loss.memory(Brings((3, 16, 16), classifier))


def test_the_commitment_to_a_codebook_counts_as_it_is_whatever_weighs_a_divergence():
    from reverie.autoencoders import VQConfig
    from reverie.models.autoencoder import Autoencoder

    config = VQConfig(width=8, multipliers=(1, 2), groups=4, codes=8, attention=False)
    f, x = Autoencoder(config, (1, 8, 8)).double().eval(), torch.randn(3, 1, 8, 8, dtype=torch.float64)
    made = f.rebuilt(x)
    for kl in (0.0, 0.5):
        value = Reconstruction(kl=kl)(f, x, torch.zeros(3, dtype=torch.float64))
        assert torch.allclose(value - (made.x - x).abs().flatten(1).mean(1), made.penalty, atol=1e-12)
    assert float(made.penalty.min()) > 0
