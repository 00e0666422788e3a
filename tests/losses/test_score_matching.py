import math

import numpy as np
import pytest
import torch
from helpers import DOUBLE, close, named, noise_from, randn, seeded

from reverie.conditioning import Cond, Conditions
from reverie.config import registered
from reverie.denoiser import Denoiser
from reverie.losses import P2, Denoising, Resampled, SelfConditioned, SigmaSquared, SlicedScoreMatching, UniformTimes
from reverie.nets import DiTConfig, MLPConfig, NetConfig, RefineNetConfig, UNetConfig, WaveNetConfig
from reverie.parameterizations import EDM, X0, Eps, Score, V, Velocity
from reverie.prediction import Prediction
from reverie.schedules import VE, Flow, LinearVP, Table

U = torch.tensor([0.1, 0.4, 0.6, 0.9], dtype=DOUBLE)
X0_, EPS = randn(4, 3, seed=1), randn(4, 3, seed=2)
CASES = named(
    eps=(LinearVP(), Eps()),
    score=(VE(0.1, 5.0), Score()),
    per_sigma=(Table(), Score(per_sigma=True)),
    v=(Flow(), V()),
    x0=(LinearVP(), X0()),
    velocity=(Flow(), Velocity()),
    edm=(VE(0.1, 5.0), EDM()),
)
TIMES = UniformTimes(0.1, 0.9)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Parameter(randn(3, 8, seed=3))
        self.second = torch.nn.Parameter(randn(8, 3, seed=4))

    def forward(self, x, label, cond):
        shift = 0 if cond is None or cond.label is None else cond.label[:, None] / 3
        return torch.tanh(x @ self.first + 0.1 * label[:, None] + shift) @ self.second


def draws(*tensors):
    """Each in its turn, as the noise."""
    order = iter(tensors)
    return lambda like: next(order)


def over_directions(loss, f, cond=None, first=EPS):
    """The mean over v: the terms are quadratic in it, so that the axes, times sqrt(D), stand for all directions."""
    axes = math.sqrt(3) * torch.eye(3, dtype=DOUBLE)
    return torch.stack([loss(f, X0_, U, cond, draws(first, axis.expand(4, 3))) for axis in axes]).mean(0)


def explicit(f, weight, cond=None):
    """w (tr grad s + |s|^2 / 2) / D, with the whole Jacobian."""
    t = TIMES(U, f.schedule)
    out = []
    for i in range(4):
        level = f.schedule.at(t[i], X0_[i])
        one = None if cond is None else cond[i : i + 1]
        score = lambda x, i=i, one=one: f(x[None], t[i : i + 1], one).score[0]  # noqa: E731
        x = level.alpha * X0_[i] + level.sigma * EPS[i]
        jacobian = torch.autograd.functional.jacobian(score, x, create_graph=True)
        out.append(weight(level, "score", (0, 0)) * (jacobian.trace() + 0.5 * score(x).square().sum()) / 3)
    return torch.stack(out)


@pytest.mark.parametrize("weight", **named(sigma_squared=SigmaSquared(), p2=P2()))
@pytest.mark.parametrize(("schedule", "parameterization"), **CASES)
def test_in_the_mean_over_directions_it_is_score_matching_with_the_whole_jacobian(schedule, parameterization, weight):
    f, cond = Denoiser(Net(), schedule, parameterization), Cond(label=torch.arange(4))
    sliced = over_directions(SlicedScoreMatching(TIMES, weight), f, cond)
    whole = explicit(f, weight, cond)
    assert close(sliced, whole, 1e-9)
    parameters = list(f.parameters())
    for a, b in zip(
        torch.autograd.grad(sliced.sum(), parameters), torch.autograd.grad(whole.sum(), parameters), strict=True
    ):
        assert close(a / b.abs().max(), b / b.abs().max(), 1e-9)


def test_the_mean_over_normal_directions_is_that_over_the_axes():
    f, n, loss = Denoiser(Net(), LinearVP(), Eps()), 40_000, SlicedScoreMatching(TIMES)
    rows = [v.repeat_interleave(n, 0) for v in (X0_[:1], U[:1], EPS[:1])]
    with torch.no_grad():
        value = loss(f, rows[0], rows[1], None, draws(rows[2], noise_from(seeded(1))(rows[0])))
        exact = over_directions(loss, f)[0]
    assert abs(float(value.mean() - exact)) < 4.5 * float(value.std()) / math.sqrt(n)  # false alarm 7e-6


# ------------------------------------------------------------- against denoising score matching


class Modelled:
    """A denoiser on the line with a score of a family s(x; a, b)."""

    def __init__(self, schedule, family, a, b):
        self.schedule, self.family = schedule, family
        self.parameters = [torch.tensor(v, dtype=DOUBLE, requires_grad=True) for v in (a, b)]

    def __call__(self, x, t, cond=None):
        return Prediction.from_score(self.family(x, *self.parameters), x, self.schedule.at(t, like=x))


FAMILIES = named(
    linear=lambda x, a, b: b - a * x,
    tanh=lambda x, a, b: -torch.tanh(a * x + b),
    cubic=lambda x, a, b: a * x + b * x**3 / 10,
)
MEAN, STD, AT = 0.4, 0.7, 0.55


def on_nodes(f, loss, nodes=96):
    """The expectation over x0 ~ N(MEAN, STD^2) and the noise, and in one dimension v = 1 for all directions."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    z, w = torch.from_numpy(z), torch.from_numpy(w / w.sum())
    x0, eps = (MEAN + STD * z).repeat_interleave(nodes)[:, None], z.repeat(nodes)[:, None]
    u = torch.full((nodes**2,), 0.5, dtype=DOUBLE)
    return w.repeat_interleave(nodes) * w.repeat(nodes) @ loss(f, x0, u, None, draws(eps, torch.ones_like(eps)))


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.2), (1.3, -0.5)])
@pytest.mark.parametrize("family", **FAMILIES)
@pytest.mark.parametrize("schedule", **named(linear_vp=LinearVP(), ve=VE(0.1, 5.0), flow=Flow()))
def test_its_gradient_is_that_of_half_the_denoising_loss(schedule, family, a, b):
    # Song et al. (2020), theorem 1, and Vincent (2011): both differ from the score's own error by a constant.
    times = UniformTimes(AT - 1e-9, AT + 1e-9)
    f = Modelled(schedule, family, a, b)
    sliced = torch.autograd.grad(on_nodes(f, SlicedScoreMatching(times)), f.parameters)
    denoising = torch.autograd.grad(on_nodes(f, Denoising("score", times, SigmaSquared())), f.parameters)
    for one, other in zip(sliced, denoising, strict=True):
        assert abs(float(other)) > 1e-3
        assert close(one, other / 2, 1e-7)


@pytest.mark.parametrize("schedule", **named(linear_vp=LinearVP(), ve=VE(0.1, 5.0), flow=Flow()))
def test_the_true_score_of_gaussian_data_is_its_minimiser(schedule):
    level = schedule.at(torch.tensor(AT, dtype=DOUBLE), torch.zeros(1))
    alpha, sigma = float(level.alpha), float(level.sigma)
    v = (alpha * STD) ** 2 + sigma**2
    loss = SlicedScoreMatching(UniformTimes(AT - 1e-9, AT + 1e-9))
    linear = FAMILIES["argvalues"][0]
    best = Modelled(schedule, linear, 1 / v, alpha * MEAN / v)
    value = on_nodes(best, loss, 8)
    gradient = torch.autograd.grad(value, best.parameters)
    assert close(torch.stack(gradient), torch.zeros(2), 1e-7)
    # There it is -1/2 of the Fisher information, sigma^2 times; convex, so elsewhere more.
    assert float(value.detach()) == pytest.approx(-0.5 * sigma**2 / v, rel=1e-7)
    for a, b in ((0.05, 0.0), (-0.05, 0.0), (0.0, 0.05), (0.0, -0.05)):
        assert on_nodes(Modelled(schedule, linear, 1 / v + a, alpha * MEAN / v + b), loss, 8) > value


# ------------------------------------------------------------------------------------ networks

SMALL = {
    "unet": UNetConfig(width=8, multipliers=(1, 2), blocks=1, attention=4, head_width=8, dropout=0.1),
    "dit": DiTConfig(width=16, depth=1, heads=2, dropout=0.1),
    "mlp": MLPConfig(width=32, depth=1),
    "refinenet": RefineNetConfig(width=8, blocks=1, dilations=(), embedding=16),
    "wavenet": WaveNetConfig(width=8, depth=3, embedding=16, dropout=0.1),
}


@pytest.mark.parametrize("kind", list(registered(NetConfig)))
def test_every_backbone_trains_and_its_gradient_is_the_derivative(kind):
    torch.manual_seed(0)
    config = SMALL.get(kind) or registered(NetConfig)[kind]()
    shape = next(shape for shape in ((2, 4, 4), (2, 16), (16,)) if config.fits(shape))
    f = Denoiser(config.build(shape, Conditions(classes=2)).double(), LinearVP(), Eps())
    x0, cond = 0.3 * randn(8, *shape, seed=1), Cond(label=torch.arange(8) % 2)
    u, loss = (torch.arange(8, dtype=DOUBLE) + 0.5) / 8, SlicedScoreMatching(UniformTimes(0.2))
    optimizer = torch.optim.Adam(f.parameters(), lr=3e-3)
    values = []
    for _ in range(12):
        value = loss(f, x0, u, cond, noise_from(seeded(1))).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert values[-1] < values[0] - 0.02
    f.eval()
    optimizer.zero_grad()
    loss(f, x0, u, cond, noise_from(seeded(1))).mean().backward()
    lost = [name for name, p in f.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not lost
    draw, h = noise_from(seeded(2)), 1e-6
    way = [draw(p) for p in f.parameters()]
    along = sum(float((p.grad * d).sum()) for p, d in zip(f.parameters(), way, strict=True))
    ends = []
    for side in (h, -h):
        with torch.no_grad():
            for p, d in zip(f.parameters(), way, strict=True):
                p.add_(side * d)
            ends.append(float(loss(f, x0, u, cond, noise_from(seeded(1))).mean()))
            for p, d in zip(f.parameters(), way, strict=True):
                p.sub_(side * d)
    assert (ends[0] - ends[1]) / (2 * h) == pytest.approx(along, rel=1e-4)


def test_float32_data_make_float32_losses():
    f = Denoiser(MLPConfig(width=16, depth=1).build((3,)), Flow(), V())
    value = SlicedScoreMatching()(f, X0_.float(), U)
    assert value.dtype == torch.float32
    assert value.shape == (4,)
    assert value.isfinite().all()


def test_without_gradients_it_has_the_same_value_and_no_graph():
    f, loss = Denoiser(Net(), LinearVP(), Eps()), SlicedScoreMatching(TIMES)
    with torch.no_grad():
        value = loss(f, X0_, U, None, draws(EPS, X0_))
    assert not value.requires_grad
    assert torch.equal(value, loss(f, X0_, U, None, draws(EPS, X0_)))


def test_a_score_that_depends_on_an_estimate_is_refused():
    # Held fixed, the estimate would leave the derivative by x free to fall without bound.
    loss = SelfConditioned(Resampled(SlicedScoreMatching()))
    with pytest.raises(ValueError, match=r"derivative by x.*use loss\.loss\.kind=denoising"):
        loss.check(LinearVP(), Eps())


def test_it_may_fall_below_zero_and_says_so():
    assert not SlicedScoreMatching().positive
    assert not SelfConditioned(SlicedScoreMatching()).positive
    assert Denoising().positive


def test_half_precision_has_room_for_the_smallest_noise():
    # -eps / sigma at sigma = 1e-5 does not fit float16; eps does, and is divided after the derivative.
    f = Denoiser(MLPConfig(width=16, depth=1).build((2,)), Flow(), V())
    with torch.no_grad():
        for i, p in enumerate(f.parameters()):
            p.copy_(0.3 * randn(*p.shape, seed=i).float())
    x0, noise = randn(32, 2).float(), lambda like: randn(*like.shape, seed=7).to(like)
    loss, u = SlicedScoreMatching(UniformTimes(1e-5)), torch.full((32,), 1 - 1e-9, dtype=DOUBLE)
    exact = loss(f, x0, u, noise=noise)
    with torch.autocast("cpu", torch.float16):
        found = loss(f, x0, u, noise=noise)
    assert torch.isfinite(found).all()
    assert close(found / exact.abs().mean(), exact / exact.abs().mean(), 0.02)
