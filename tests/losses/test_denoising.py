import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, Stub, close, every_schedule, gaussian, mixture, named, noise_from, randn, seeded

from reverie.conditioning import Cond
from reverie.losses import Denoising, EDMWeight, KnotTimes, LogNormalTimes, MinSNR, UniformTimes, Unit
from reverie.parameterizations import rates_at
from reverie.schedules import Cosine, Flow, LinearVP, Table
from reverie.tensors import host

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


@pytest.mark.parametrize(
    "weight", **named(min_snr=MinSNR(), min_snr_1=MinSNR(1.0), edm=EDMWeight(), edm_2=EDMWeight(2.0))
)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_a_published_weight_gives_one_loss_in_every_notation(schedule, weight):
    losses = [loss(guess(schedule), notation, weight) for notation in NOTATIONS]
    for other in losses[1:]:
        assert close(other / losses[0], torch.ones(9), 1e-8)


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


# ----------------------------------------------------------------------------------- weights


LEVELS = torch.tensor([0.02, 0.2, 0.5, 0.8, 0.97], dtype=DOUBLE)


def weights(weight, schedule, notation):
    like = torch.zeros(5, 1, dtype=DOUBLE)
    level = schedule.at(LEVELS, like)
    return weight(level, notation, rates_at(schedule, level, like)).flatten()


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize("name", ["cosine", "linear_vp", "table"])
def test_min_snr_is_as_published(name, gamma):
    # Hang et al. (2023), section 3.4: x0: min(SNR, g); eps: min(SNR, g) / SNR; v: min(SNR, g) / (SNR + 1).
    schedule = SCHEDULES[name]
    snr = schedule.log_snr(LEVELS).exp()
    low = torch.minimum(snr, torch.tensor(gamma))
    for notation, expected in (("x0", low), ("eps", low / snr), ("v", low / (snr + 1))):
        assert close((weights(MinSNR(gamma), schedule, notation) / expected).log(), torch.zeros(5), 1e-9)
    assert MinSNR().gamma == 5


@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
def test_edm_weight_is_as_published_and_makes_the_networks_own_error_count_equally(sigma_data):
    ve = SCHEDULES["ve"]
    sigma = ve.sigma(LEVELS)
    published = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    assert close((weights(EDMWeight(sigma_data), ve, "x0") / published).log(), torch.zeros(5), 1e-10)
    c_out = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    assert close(weights(EDMWeight(sigma_data), ve, "x0") * c_out**2, torch.ones(5), 1e-10)
    for schedule in SCHEDULES.values():
        r = (-schedule.log_snr(LEVELS) / 2).exp()
        published = (r**2 + sigma_data**2) / (r * sigma_data) ** 2
        assert close((weights(EDMWeight(sigma_data), schedule, "x0") / published).log(), torch.zeros(5), 1e-9)
    assert EDMWeight().sigma_data == 0.5


@pytest.mark.parametrize("notation", NOTATIONS)
def test_unit_is_one_in_every_notation(notation):
    assert close(weights(Unit(), Flow(), notation), torch.ones(5))


@pytest.mark.parametrize("notation", ["x0", "eps", "v", "flow"])
def test_min_snr_is_finite_without_any_signal(notation):
    like = torch.zeros(1, 1, dtype=DOUBLE)
    for schedule in (Cosine(), Flow(), Table([0.5, 1.0])):
        if notation == "flow" and isinstance(schedule, Table):
            continue  # its rates are nan there: see test_prediction
        level = schedule.at(host(1.0), like)
        weight = MinSNR()(level, notation, rates_at(schedule, level, like))
        assert weight == (1 if notation == "eps" else 0)


@pytest.mark.parametrize(
    "make", [lambda: MinSNR(0.0), lambda: MinSNR(-1.0), lambda: EDMWeight(0.0), lambda: EDMWeight(math.nan)]
)
def test_settings_that_make_no_weight_are_refused(make):
    with pytest.raises(ValueError, match="> 0"):
        make()


def test_losses_of_float32_data_are_float32_and_carry_gradients():
    scale = torch.nn.Parameter(torch.tensor(0.5))
    f = Stub(LinearVP(), lambda x, t: scale * x)
    value = Denoising("x0", LogNormalTimes(), EDMWeight())(f, X0.float(), U, None, torch.randn_like)
    assert value.dtype == torch.float32
    value.mean().backward()
    assert scale.grad is not None
