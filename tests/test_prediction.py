import itertools
import math

import pytest
import torch
from helpers import DOUBLE, SCHEDULES, close, every_schedule, named, randn

from reverie.parameterizations import rates_at
from reverie.prediction import Prediction, posterior
from reverie.schedules import VE, Cosine, Flow, Level, LinearVP, Table
from reverie.tensors import host

NOTATIONS = ("x0", "eps", "score", "v", "flow")
ZERO_SNR = Table([0.1, 0.5, 1.0])
VECTOR = torch.tensor([0.05, 0.3, 0.6, 0.93], dtype=DOUBLE)
X0, EPS = randn(4, 3, 2, seed=1), randn(4, 3, 2, seed=2)


def read(q, notation, rates):
    return q.flow(rates) if notation == "flow" else getattr(q, notation)


def build(value, x, level, notation, rates, var=None):
    if notation == "flow":
        return Prediction.from_flow(value, x, level, rates, var)
    return getattr(Prediction, f"from_{notation}")(value, x, level, var)


def levels(schedule):
    yield schedule.at(VECTOR, like=X0)
    yield from (schedule.at(t, like=X0) for t in VECTOR)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(NOTATIONS, NOTATIONS)))
@pytest.mark.parametrize("schedule", **every_schedule)
def test_every_pair_of_notations_round_trips(schedule, first, second):
    for level in levels(schedule):
        x = level.alpha * X0 + level.sigma * EPS
        rates = rates_at(schedule, level, x)
        truth = Prediction(x, level, X0, EPS)
        once = build(read(truth, first, rates), x, level, first, rates)
        twice = build(read(once, second, rates), x, level, second, rates)
        for q in (once, twice):
            # An error in eps is alpha / sigma times one in x0, or the other way round: conditioning, not error.
            assert close(level.alpha * q.x0, level.alpha * X0, 1e-12)
            assert close(level.sigma * q.eps, level.sigma * EPS, 1e-12)
            assert close(level.alpha * q.x0 + level.sigma * q.eps, x, 1e-12)
            scale = torch.maximum(level.sigma / level.alpha, level.alpha / level.sigma).max().clamp_min(1)
            for notation in NOTATIONS:
                assert close(read(q, notation, rates), read(truth, notation, rates), 1e-14 * float(scale) ** 2 + 1e-12)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_each_notation_by_its_definition(schedule):
    for level in levels(schedule):
        da, db = rates_at(schedule, level, X0)
        q = Prediction(level.alpha * X0 + level.sigma * EPS, level, X0, EPS)
        assert close(q.score, -EPS / level.sigma, 1e-13)
        assert close(q.v, level.alpha * EPS - level.sigma * X0, 1e-13)
        assert close(q.flow((da, db)), da * X0 + db * EPS, 1e-13)


def test_flow_is_the_velocity_of_the_path():
    h = 1e-5
    for schedule in SCHEDULES.values():
        t = torch.tensor(0.4567, dtype=DOUBLE)
        level = schedule.at(t, like=X0)
        path = [schedule.alpha(t + k) * X0 + schedule.sigma(t + k) * EPS for k in (-h, h)]
        flow = Prediction(X0, level, X0, EPS).flow(rates_at(schedule, level, X0))
        assert close(flow, (path[1] - path[0]) / (2 * h), 1e-6)


@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), flow=Flow(), zero_snr=ZERO_SNR))
def test_v_and_flow_are_exact_without_any_signal(schedule):
    level = schedule.at(host(1.0), like=X0)
    q = Prediction(EPS, level, X0, EPS)
    rates = rates_at(schedule, level, X0)
    for again in (Prediction.from_v(q.v, EPS, level), Prediction.from_flow(q.flow(rates), EPS, level, rates)):
        assert close(again.x0, X0)
        assert close(again.eps, EPS)


def test_v_and_flow_are_exact_without_any_noise():
    level = Flow().at(host(0.0), like=X0)
    rates = rates_at(Flow(), level, X0)
    q = Prediction(X0, level, X0, EPS)
    for again in (Prediction.from_v(q.v, X0, level), Prediction.from_flow(q.flow(rates), X0, level, rates)):
        assert close(again.x0, X0)
        assert close(again.eps, EPS)


def test_with_replaces_one_half_and_the_other_follows():
    level = LinearVP().at(VECTOR, like=X0)
    x, var = level.alpha * X0 + level.sigma * EPS, torch.rand(4, 3, 2)
    q = Prediction(x, level, X0, EPS, var)
    other = randn(4, 3, 2, seed=3)
    for again in (q.with_x0(other), q.with_eps(other)):
        assert close(level.alpha * again.x0 + level.sigma * again.eps, x)
        assert again.x is x
        assert again.level is level
        assert again.var is var
    assert torch.equal(q.with_x0(other).x0, other)
    assert torch.equal(q.with_eps(other).eps, other)
    assert torch.equal(q.x0, X0)
    assert q.with_var(None).var is None
    assert q.with_var(None).x0 is X0


@pytest.mark.parametrize("notation", NOTATIONS)
def test_the_variance_travels_with_the_prediction(notation):
    level, var = Cosine().at(VECTOR, like=X0), torch.rand(4, 3, 2)
    rates = rates_at(Cosine(), level, X0)
    assert build(X0, EPS, level, notation, rates, var).var is var


# --------------------------------------------------------------------------------- posterior


def levels_of(schedule, t, s):
    return schedule.at(host(t), X0), schedule.at(host(s), X0)


PAIRS = [(0.9, 0.85), (0.5, 0.1), (0.97, 0.02), (0.31, 0.3), (0.0013, 0.0004)]


@pytest.mark.parametrize(("t", "s"), PAIRS)
@pytest.mark.parametrize("schedule", **every_schedule)
def test_posterior_is_gaussian_conditioning(schedule, t, s):
    # (x_s, x_t) given x0 = m are jointly normal, x_t = r x_s + noise of variance w:
    # means alpha m, variances sigma^2, covariance r sigma_s^2. Condition x_s on x_t by the general formula.
    a, b = levels_of(schedule, t, s)
    m, x = X0, a.alpha * X0 + 1.7 * a.sigma * EPS
    r = a.alpha / b.alpha
    covariance = torch.stack([torch.stack([b.sigma**2, r * b.sigma**2]), torch.stack([r * b.sigma**2, a.sigma**2])])
    gain = covariance[0, 1] / covariance[1, 1]
    mean = b.alpha * m + gain * (x - a.alpha * m)
    variance = covariance[0, 0] - gain * covariance[1, 0]
    got_mean, got_log_var = posterior(Prediction.from_x0(m, x, a), b)
    assert close(got_mean, mean, 1e-11)
    assert close(got_log_var, variance.log(), 1e-8)
    assert close(got_log_var, (covariance.det() / a.sigma**2).log(), 1e-8)
    # The upper bound is the variance of q(x_t | x_s).
    assert close(posterior(Prediction.from_x0(m, x, a), b, 1.0)[1], (a.sigma**2 - r**2 * b.sigma**2).log(), 1e-8)


@pytest.mark.parametrize("stride", [1, 7, 100])
def test_posterior_of_a_chain_is_that_of_ddpm(stride):
    # Ho et al. (2020), eq. 6 and 7, for the strided chain whose betas are 1 - alpha_bar_i / alpha_bar_{i - stride}.
    betas = [1e-4 + i * (0.02 - 1e-4) / 999 for i in range(1000)]
    bar = [1.0]
    for beta in betas:
        bar.append(bar[-1] * (1 - beta))
    for i in range(2 * stride, 1001, 5 * stride):
        now, before = bar[i], bar[i - stride]
        beta = 1 - now / before
        mean_x0 = math.sqrt(before) * beta / (1 - now)
        mean_x = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        tilde = (1 - before) / (1 - now) * beta
        a, b = levels_of(Table(), i / 1000, (i - stride) / 1000)
        x = math.sqrt(now) * X0 + math.sqrt(1 - now) * EPS
        q = Prediction.from_eps(EPS, x, a)
        mean, lower = posterior(q, b)
        assert close(mean, mean_x0 * X0 + mean_x * x, 1e-11)
        assert close(lower, math.log(tilde), 1e-8)
        assert close(posterior(q, b, 1.0)[1], math.log(beta), 1e-8)
        assert close(posterior(q, b, 0.3)[1], 0.3 * math.log(beta) + 0.7 * math.log(tilde), 1e-8)
        # Improved DDPM (released code, gaussian_diffusion.p_mean_variance): a network's output in
        # [-1, 1] is frac = (out + 1) / 2 of the way from log tilde to log beta.
        out = randn(4, 3, 2, seed=5).tanh()
        frac = (out + 1) / 2
        learned = posterior(q.with_var(frac), b, 1.0)[1]
        assert close(learned, frac * math.log(beta) + (1 - frac) * math.log(tilde), 1e-8)


@pytest.mark.parametrize("schedule", **every_schedule)
def test_posterior_at_the_data_is_the_prediction(schedule):
    a, b = levels_of(schedule, 0.3, 0.0)
    q = Prediction(a.alpha * X0 + a.sigma * EPS, a, X0, EPS)
    mean, log_var = posterior(q, b)
    assert close(mean, X0)
    assert close(log_var, math.log(1e-20), 1e-12)
    assert close(posterior(q, b, 1.0)[1], (a.sigma**2).log(), 1e-12)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_a_step_to_the_same_level_stays_with_the_least_variance(fraction):
    level = Flow().at(host(0.5), like=X0)
    x = 0.5 * X0 + 0.5 * EPS
    mean, log_var = posterior(Prediction(x, level, X0, EPS), level, fraction)
    assert close(mean, x)
    assert close(log_var, math.log(1e-20), 1e-12)


@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), flow=Flow()))
def test_posterior_from_pure_noise_forgets_x(schedule):
    a, b = levels_of(schedule, 1.0, 0.9)
    mean, log_var = posterior(Prediction(EPS, a, X0, EPS), b)
    assert close(mean, b.alpha * X0)
    assert close(log_var, 2 * b.sigma.log())


@pytest.mark.parametrize("power", [0.0, 0.2, 1.0])
def test_the_bounds_hold_the_true_variance_of_gaussian_data(power):
    # x0 ~ N(0, power) with power <= 1 on a variance-preserving process: var(x_s | x_t) lies between
    # the bounds, at the lower for a point and at the upper for power 1 (Ho et al., 2020, section 3.2).
    for t, s in PAIRS:
        a, b = levels_of(LinearVP(), t, s)
        r = a.alpha / b.alpha
        v_t, v_s = (l.alpha**2 * power + l.sigma**2 for l in (a, b))
        true = (v_s - (r * v_s) ** 2 / v_t).log()
        q = Prediction(X0, a, X0, EPS)
        lower, upper = posterior(q, b)[1], posterior(q, b, 1.0)[1]
        assert lower <= true + 1e-9 <= upper + 2e-9
        if power in (0.0, 1.0):
            assert close(true, upper if power else lower, 1e-8)


def test_posterior_by_example_equals_posterior_by_scalar():
    t, s = VECTOR, VECTOR * torch.tensor([0.5, 0.9, 0.0, 0.1])
    for schedule in (VE(), Table(), Flow()):
        a, b = schedule.at(t, X0), schedule.at(s, X0)
        x = a.alpha * X0 + a.sigma * EPS
        mean, log_var = posterior(Prediction(x, a, X0, EPS), b, 0.4)
        for i in range(4):
            one = schedule.at(t[i], X0), schedule.at(s[i], X0)
            m, v = posterior(Prediction(x[i], one[0], X0[i], EPS[i]), one[1], 0.4)
            assert close(mean[i], m)
            assert close(log_var[i].flatten()[0], v)


def test_levels_are_values():
    level = Level(host(0.5), host(0.6), host(0.8))
    assert close(level.log_snr, math.log(0.36 / 0.64))
    with pytest.raises(AttributeError):
        level.alpha = host(1.0)
