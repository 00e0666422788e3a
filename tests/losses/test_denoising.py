import math

import numpy as np
import pytest
import torch
from helpers import DOUBLE, Stub, cases, close, every_schedule, gaussian, mixture, named, noise_from, randn, seeded

from reverie.conditioning import Cond
from reverie.exact import FiniteData
from reverie.losses import (
    Denoising,
    EDMWeight,
    KnotTimes,
    LogNormalTimes,
    MinSNR,
    Pairing,
    Penalty,
    UniformTimes,
    Unit,
)
from reverie.parameterizations import rates_at
from reverie.prediction import Prediction
from reverie.schedules import VE, Cosine, Flow, LinearVP, SubVP, Table

NOTATIONS = ("x0", "eps", "v", "score", "flow")
U = torch.linspace(0.02, 0.98, 9, dtype=DOUBLE)
X0 = randn(9, 3, 2, seed=1)
EPS = randn(9, 3, 2, seed=2)


def guess(schedule):
    """A denoiser that is wrong, each example in its own way."""
    return Stub(schedule, lambda x, t: (x * 0.7).tanh() + 0.2)


def loss(f, notation, weight, times=None, cond=None):
    times = UniformTimes() if times is None else times
    return Denoising(notation, times, weight)(f, X0, U, cond, lambda like: EPS)


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_the_loss_is_the_mean_square_of_the_stated_error(schedule, notation):
    f, t = guess(schedule), UniformTimes()(U, schedule)
    assert torch.equal(Denoising().times_at(U, schedule), t)
    value = loss(f, notation, Unit())
    assert value.shape == (9,)
    assert value.dtype == DOUBLE
    for i in range(9):
        a, b = schedule.alpha(t[i]), schedule.sigma(t[i])
        da, db = schedule.rates(t[i])
        x0 = f.x0(a * X0[i] + b * EPS[i], t[i])
        eps = (a * X0[i] + b * EPS[i] - a * x0) / b
        error = {
            "x0": x0 - X0[i],
            "eps": eps - EPS[i],
            "v": a * (eps - EPS[i]) - b * (x0 - X0[i]),
            "score": (eps - EPS[i]) / b,
            "flow": da * (x0 - X0[i]) + db * (eps - EPS[i]),
        }[notation]
        assert close(value[i] / (error**2).mean(), 1.0, 1e-8)


def test_the_defaults_are_ddpms_loss_in_continuous_time():
    assert Denoising() == Denoising("eps", UniformTimes(), Unit())
    f = guess(LinearVP())
    assert close(Denoising()(f, X0, U, None, lambda like: EPS), loss(f, "eps", Unit()))


def test_the_denoiser_is_told_x_t_and_the_condition():
    seen = []

    class Watched(Stub):
        def __call__(self, x, t, cond=None):
            seen.append((x, t, cond))
            return super().__call__(x, t, cond)

    cond, schedule = Cond(label=torch.arange(9)), Flow()
    loss(Watched(schedule, lambda x, t: x), "x0", Unit(), cond=cond)
    x, t, given = seen[0]
    assert given is cond
    assert close(t, UniformTimes()(U, schedule))
    assert close(x, (1 - t)[:, None, None] * X0 + t[:, None, None] * EPS)


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("weight", **named(unit=Unit(), min_snr=MinSNR(), edm=EDMWeight()))
def test_the_exact_denoiser_minimises_the_expected_loss(weight, notation):
    f, n = mixture(LinearVP()), 20_000
    x0, g = f.sample(n, seeded(1)), seeded(2)
    eps, u = torch.randn(n, 2, dtype=DOUBLE, generator=g), torch.rand(n, dtype=DOUBLE, generator=g)
    measure = Denoising(notation, UniformTimes(0.05, 0.9), weight)

    def expected(scale, shift):
        moved = Stub(f.schedule, lambda x, t: (1 + scale) * f(x, t).x0 + shift)
        return measure(moved, x0, u, None, lambda like: eps)

    best = expected(0, 0)
    for scale, shift in ((0.1, 0.0), (-0.1, 0.0), (0.0, 0.1), (0.0, -0.1)):
        difference = expected(scale, shift) - best
        # paired draws: the mean difference is at least 4 standard errors above 0
        assert difference.mean() > 4 * difference.std() / math.sqrt(n)


@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), flow=Flow(), linear_vp=LinearVP()))
def test_the_loss_of_the_exact_denoiser_is_its_posterior_variance(schedule):
    # x0 ~ N(m, P): var(x0 | x_t) = P sigma^2 / V and var(eps | x_t) = alpha^2 P / V, V = alpha^2 P + sigma^2.
    f, n = gaussian(schedule), 40_000
    x0, noise = f.sample(n, seeded(1)), noise_from(seeded(2))
    t = torch.tensor(0.37, dtype=DOUBLE)
    a, b, power = schedule.alpha(t), schedule.sigma(t), f.stds[0] ** 2
    v = a**2 * power + b**2
    at = KnotTimes(100)
    u = torch.full((n,), (100 - 37) / 100 + 1e-9, dtype=DOUBLE)
    assert close(at(u[:1], schedule)[0], t)
    for notation, expected in (("x0", power * b**2 / v), ("eps", a**2 * power / v)):
        value = Denoising(notation, at, Unit())(f, x0, u, None, noise)
        assert float(value.mean()) == pytest.approx(float(expected.mean()), rel=5 * math.sqrt(2 / (3 * n)) * 1.5)


def test_losses_of_float32_data_are_float32_and_carry_gradients():
    scale = torch.nn.Parameter(torch.tensor(0.5))
    f = Stub(LinearVP(), lambda x, t: scale * x)
    value = Denoising("x0", LogNormalTimes(), EDMWeight())(f, X0.float(), U, None, torch.randn_like)
    assert value.dtype == torch.float32
    value.mean().backward()
    assert scale.grad is not None


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("penalty", **cases(Penalty))
def test_a_penalty_counts_each_number_by_its_size_and_the_weight_stands_before_it(penalty, notation):
    f, schedule = guess(LinearVP()), LinearVP()
    value = Denoising(notation, weight=MinSNR(), penalty=penalty)(f, X0, U, None, lambda like: EPS)
    t = UniformTimes()(U, schedule)
    level = schedule.at(t, X0)
    rates, truth = rates_at(schedule, level, X0), Prediction(level.alpha * X0 + level.sigma * EPS, level, X0, EPS)
    told = f(truth.x, t)
    a, b = (q.flow(rates) if notation == "flow" else getattr(q, notation) for q in (told, truth))
    expected = MinSNR()(level, notation, rates) * penalty(a - b)
    assert close(value / expected.flatten(1).mean(1), torch.ones(9), 1e-12)


def test_the_noise_is_paired_before_it_is_mixed_in():
    class Backwards(Pairing):
        def __call__(self, x0, eps, cond):
            seen.append(cond)
            return eps.flip(0)

    seen, cond = [], Cond(label=torch.arange(9))
    paired = Denoising("v", pairing=Backwards())(guess(Flow()), X0, U, cond, lambda like: EPS)
    assert close(paired, Denoising("v")(guess(Flow()), X0, U, cond, lambda like: EPS.flip(0)), 1e-14)
    assert seen == [cond]


@pytest.mark.parametrize("schedule", **named(linear_vp=LinearVP(), sub_vp=SubVP(), ve=VE(), flow=Flow(), table=Table()))
def test_denoising_and_explicit_score_matching_differ_by_a_constant(schedule):
    # Vincent (2011): E |s + eps / sigma|^2 - E |s - grad log p|^2 does not depend on s. x0 on 5 points, by quadrature.
    f = FiniteData(schedule, torch.tensor([[-1.3], [-0.2], [0.1], [0.9], [1.4]], dtype=DOUBLE))
    nodes, w = np.polynomial.hermite_e.hermegauss(80)
    w = torch.from_numpy(w / w.sum())
    x0, eps = f.means.repeat_interleave(80, 0), torch.from_numpy(nodes).repeat(5)[:, None]
    weight = w.repeat(5) / 5
    t = torch.tensor(0.62, dtype=DOUBLE)
    level, u = schedule.at(t, x0), torch.full((400,), 0.5, dtype=DOUBLE)
    x = level.alpha * x0 + level.sigma * eps
    constants = []
    for guess in (lambda x: 0 * x, torch.tanh, lambda x: -x / (1 + level.sigma**2), lambda x: torch.cos(3 * x)):
        g = Scores(schedule, guess)
        value = Denoising("score", UniformTimes(0.62 - 1e-9, 0.62 + 1e-9))(g, x0, u, None, lambda like: eps)
        explicit = (guess(x) - f(x, t).score).square()[:, 0]
        constants.append(float(weight @ value - weight @ explicit))
    assert max(constants) - min(constants) < 1e-7 * max(constants)


class Scores(Stub):
    """A denoiser with a score of the test's choice."""

    def __call__(self, x, t, cond=None):
        return Prediction.from_score(self.x0(x), x, self.schedule.at(t, like=x))
