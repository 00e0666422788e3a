import math

import mpmath
import numpy as np
import pytest
import torch
from helpers import DOUBLE, SCHEDULES, Stub, close, named, noise_from, randn, seeded
from scipy import stats

from reverie.bound import BINS, log_density, log_mass, prior_cost, step_cost, variational_bound
from reverie.denoiser import Clipped, Denoiser
from reverie.exact import Gaussian, GaussianMixture
from reverie.grids import Karras, Knots, LogSNR, Uniform
from reverie.losses import Denoising, Hybrid, VariationalBound
from reverie.parameterizations import Eps, LearnedVariance
from reverie.prediction import Prediction, posterior
from reverie.samplers import Ancestral
from reverie.schedules import VE, Cosine, Flow, LinearVP, Shifted, Table
from reverie.tensors import host
from reverie.time_labels import Index

LN2 = math.log(2)

# ------------------------------------------------- Nichol & Dhariwal (2021), in numpy, from the formulas of the paper


class Wild(torch.nn.Module):
    """A network of untrained, random output: noise in the first half, a variance in the second, if asked for."""

    def __init__(self, outputs):
        super().__init__()
        self.first = torch.nn.Parameter(randn(3, 16, seed=1))
        self.second = torch.nn.Parameter(randn(16, 3 * outputs, seed=2) / 3)

    def forward(self, x, label, cond):
        h = torch.tanh(x @ self.first + torch.sin(label[:, None] / 7))
        return h @ self.second


class Chain:
    """A chain of steps with variances beta_1 ... beta_N, index i standing for the step from i to i - 1."""

    def __init__(self, betas):
        self.beta = betas
        self.bar = np.cumprod(1 - betas)
        self.before = np.append(1.0, self.bar[:-1])
        self.tilde = betas * (1 - self.before) / (1 - self.bar)  # eq. 10
        self.lowest = np.log(np.append(self.tilde[1], self.tilde[1:]))  # the first is 0: the second stands in
        self.to_x0 = np.sqrt(self.before) * betas / (1 - self.bar)  # eq. 11
        self.to_x = np.sqrt(1 - betas) * (1 - self.before) / (1 - self.bar)

    def log_variance(self, i, fraction):
        return fraction * np.log(self.beta[i]) + (1 - fraction) * self.lowest[i]  # eq. 15

    def term(self, i, x0, x, guess, log_variance, bins):
        """L_i in nats: eq. 6 for i > 0, else eq. 5."""
        mean = self.to_x0[i] * guess + self.to_x[i] * x
        if i > 0:
            true = self.to_x0[i] * x0 + self.to_x[i] * x
            return 0.5 * (
                log_variance - self.lowest[i] - 1 + np.exp(self.lowest[i] - log_variance)
                + (true - mean) ** 2 / np.exp(log_variance)
            )  # fmt: skip
        law = stats.norm(mean, np.exp(log_variance / 2))
        if not bins:
            return -law.logpdf(x0)
        low = np.where(x0 < -0.999, -np.inf, x0 - 1 / 255)
        high = np.where(x0 > 0.999, np.inf, x0 + 1 / 255)
        upper = law.logsf(low) + np.log1p(-np.exp(law.logsf(high) - law.logsf(low)))
        lower = law.logcdf(high) + np.log1p(-np.exp(law.logcdf(low) - law.logcdf(high)))
        return -np.where(mean < x0, upper, lower)


def linear_betas(t):
    return np.linspace(1e-4, 0.02, t)


def cosine_betas(t):
    u = np.arange(t + 1) / t
    f = np.cos((u + 0.008) / 1.008 * np.pi / 2) ** 2
    return np.minimum(1 - f[1:] / f[:-1], 0.999)


CHAINS = named(linear=(Table.linear(), linear_betas(1000)), cosine=(Table.cosine(), cosine_betas(1000)))
EVERY = np.arange(1000)
FIFTY = np.round(np.arange(50) * (999 / 49)).astype(int)
PIXELS = torch.tensor([[0, 17, 255], [128, 254, 1], [3, 99, 200]], dtype=DOUBLE) / 127.5 - 1
NOISE = randn(1000, 3, 3, seed=3)


def reference(betas, kept, output, fraction, bins, clip=None):
    """Every term at the noise NOISE[i] of step i of the chain respaced to the steps `kept`, summed over an example."""
    bar = np.cumprod(1 - betas)[kept]
    chain = Chain(1 - bar / np.append(1.0, bar[:-1]))
    x0, terms = PIXELS.numpy(), []
    for i in reversed(range(len(kept))):
        x = np.sqrt(bar[i]) * x0 + np.sqrt(1 - bar[i]) * NOISE[i].numpy()
        eps, v = output(x, kept[i])
        guess = (x - np.sqrt(1 - bar[i]) * eps) / np.sqrt(bar[i])
        guess = guess if clip is None else guess.clip(-clip, clip)
        share = (v + 1) / 2 if v is not None else (fraction if i > 0 else 0.0)
        terms.append(chain.term(i, x0, x, guess, chain.log_variance(i, share), bins).sum(1))
    last = 1 - bar[-1]
    prior = 0.5 * (bar[-1] * x0**2 + last - 1 - np.log(last))  # eq. 7: to N(0, 1)
    return prior.sum(1), np.stack(terms, 1)


def reads(net, learned):
    def output(x, index):
        with torch.no_grad():
            out = net(torch.from_numpy(x), torch.full((3,), float(index), dtype=DOUBLE), None).numpy()
        return (out[:, :3], out[:, 3:]) if learned else (out, None)

    return output


def counted(kept):
    """The noise of each step, from the last to the first."""
    order = iter(reversed(range(len(kept))))
    return lambda like: NOISE[next(order)]


@pytest.mark.parametrize(("kept", "bins"), **named(every=(EVERY, BINS), fifty=(FIFTY, BINS), density=(FIFTY, 0)))
@pytest.mark.parametrize(("schedule", "betas"), **CHAINS)
def test_every_term_is_that_of_improved_ddpm(schedule, betas, kept, bins):
    net = Wild(2)
    f = Denoiser(net, schedule, LearnedVariance(Eps()), Index(1000))
    times = torch.from_numpy(np.append(kept[::-1] + 1, 0) / 1000)
    got = variational_bound(f, PIXELS, times, noise=counted(kept), bins=bins)
    prior, terms = reference(betas, kept, reads(net, True), None, bins)
    assert got.steps.shape == (3, len(kept))
    assert close(got.steps / torch.from_numpy(terms), torch.ones_like(got.steps), 1e-9)
    assert close(got.times, times[:-1])
    assert close(got.total, got.prior + got.steps.sum(1))
    # Sampling starts from N(0, sigma^2), not from N(0, 1): by so little that theirs is larger, in the fourth order.
    sigma2 = 1 - np.cumprod(1 - betas)[-1]
    other = 0.5 * 3 * (sigma2 - 1 - np.log(sigma2)) + (1 - 1 / sigma2) * 0.5 * (1 - sigma2) * (PIXELS**2).sum(1).numpy()
    assert close(got.prior, torch.from_numpy(prior - other), 1e-9)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_variance_that_is_not_learned_is_one_of_the_two_bounds_and_the_decoders_is_the_lower(fraction, clip):
    net = Wild(1)
    f = Denoiser(net, Table.cosine(), Eps(), Index(1000))
    f = f if clip is None else Clipped(f, -clip, clip)
    times = torch.from_numpy(np.append(FIFTY[::-1] + 1, 0) / 1000)
    got = variational_bound(f, PIXELS, times, noise=counted(FIFTY), fraction=fraction, bins=BINS)
    _, terms = reference(cosine_betas(1000), FIFTY, reads(net, False), fraction, BINS, clip)
    assert close(got.steps / torch.from_numpy(terms), torch.ones_like(got.steps), 1e-9)


@pytest.mark.parametrize(("schedule", "betas"), **CHAINS)
def test_the_loss_is_t_times_the_term_in_bits_a_dimension(schedule, betas):
    net, chosen = Wild(2), np.array([0, 1, 412])
    f = Denoiser(net, schedule, LearnedVariance(Eps()), Index(1000))
    u = torch.from_numpy((999 - chosen + 0.5) / 1000)
    eps = NOISE[torch.from_numpy(chosen), torch.arange(3)]
    value = VariationalBound()(f, PIXELS, u, None, lambda like: eps)
    _, terms = reference(betas, EVERY, reads(net, True), None, BINS)
    expected = terms[:, ::-1][np.arange(3), chosen] / 3 / LN2 * 1000
    assert close(value / torch.from_numpy(expected), torch.ones(3), 1e-9)
    simple = Denoising("eps", VariationalBound().times)(f, PIXELS, u, None, lambda like: eps)
    hybrid = Hybrid()(f, PIXELS, u, None, lambda like: eps)  # L_simple + 0.001 L_vlb, eq. 16
    assert close(hybrid / (simple + torch.from_numpy(expected) / 1000), torch.ones(3), 1e-9)
    assert close(Hybrid(scale=2.0)(f, PIXELS, u, None, lambda like: eps), simple + 2 * value, 1e-9)


def test_the_mean_over_the_times_is_the_bound_without_its_prior():
    net = Wild(2)
    f = Denoiser(net, Table.linear(20, 0.005, 0.6), LearnedVariance(Eps()))
    u = (torch.arange(20, dtype=DOUBLE) + 0.5) / 20
    x0, eps = PIXELS[:1].expand(20, 3), randn(20, 3)
    value = VariationalBound()(f, x0, u, None, lambda like: eps)
    rows = iter(eps)
    bound = variational_bound(f, PIXELS[:1], Knots(20)(f.schedule), noise=lambda like: next(rows)[None], bins=BINS)
    assert close(value.mean(), (bound.steps.sum() / 3 / LN2).detach(), 1e-10)


def test_the_mean_gets_no_gradient_from_the_bound_in_a_hybrid_and_the_variance_none_from_the_rest():
    u = torch.tensor([0.0005, 0.3, 0.9995], dtype=DOUBLE)
    eps = NOISE[0]

    def gradients(loss):
        net = Wild(2)
        f = Denoiser(net, Table.linear(), LearnedVariance(Eps()), Index(1000))
        loss(f, PIXELS, u, None, lambda like: eps).sum().backward()
        return net.second.grad[:, :3], net.second.grad[:, 3:]

    hybrid, bound, large = gradients(Hybrid()), gradients(VariationalBound()), gradients(Hybrid(scale=3.0))
    simple = gradients(Hybrid(scale=1e-300))
    assert torch.equal(hybrid[0], simple[0])
    assert torch.equal(large[0], simple[0])
    assert close(simple[1], torch.zeros_like(simple[1]), 1e-200)
    assert close(hybrid[1], 0.001 * bound[1], 1e-12)
    assert bound[1].abs().max() > 1
    assert not close(bound[0], simple[0], 0.1)


@pytest.mark.parametrize(("schedule", "betas"), **CHAINS)
def test_an_ancestral_step_draws_from_the_gaussian_that_the_bound_measures(schedule, betas):
    net = Wild(2)
    f = Denoiser(net, schedule, LearnedVariance(Eps()), Index(1000))
    bar = np.cumprod(1 - betas)[FIFTY]
    chain, z, x = Chain(1 - bar / np.append(1.0, bar[:-1])), randn(3, 3, seed=7), randn(3, 3, seed=8)
    for i in (49, 30, 7, 1, 0):
        t, s = host((FIFTY[i] + 1) / 1000), host((FIFTY[i - 1] + 1) / 1000 if i else 0.0)
        got, _ = Ancestral().step(f, x, t, s, None, lambda like: z, None)
        eps, v = reads(net, True)(x.numpy(), FIFTY[i])
        guess = (x.numpy() - np.sqrt(1 - bar[i]) * eps) / np.sqrt(bar[i])
        expected = chain.to_x0[i] * guess + chain.to_x[i] * x.numpy()
        if i > 0:
            expected = expected + np.exp(chain.log_variance(i, (v + 1) / 2) / 2) * z.numpy()
        assert close(got.detach(), torch.from_numpy(expected), 1e-9)


# ------------------------------------------------------------- exact expectations, by Gauss-Hermite quadrature


def normal_nodes(n):
    """Nodes and weights whose weighted sum is the mean under a standard normal law, exact to degree 2 n - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def expected(f, x0, weight, times, nodes=8, **settings):
    """The bound's prior, and its steps (N,), in the mean over x0 (M, 1) with weights (M,) and over the noise."""
    eps, w = normal_nodes(nodes)
    rows, noise = x0.repeat_interleave(nodes, 0), eps.repeat(len(x0))[:, None]
    terms = variational_bound(f, rows, times, noise=lambda like: noise, **settings)
    both = (weight[:, None] * w).flatten()
    return both @ terms.prior, both @ terms.steps


GRIDS = named(uniform=Uniform(9), log_snr=LogSNR(12), karras=Karras(7), two=Uniform(2), one=Uniform(1))
P, M = 0.49, 0.3
"""Variance and mean of Gaussian data in one dimension; the exact denoiser is linear, its costs quadratic."""
ENTROPY = 0.5 * math.log(2 * math.pi * math.e * P)


def line(schedule):
    return Gaussian(schedule, torch.tensor([M], dtype=DOUBLE), math.sqrt(P))


def gaussian_data():
    nodes, weight = normal_nodes(8)
    return (M + math.sqrt(P) * nodes)[:, None], weight


def moments(schedule, t):
    t = host(t)
    return float(schedule.alpha(t)), float(schedule.sigma(t))


@pytest.mark.parametrize("fraction", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("grid", **GRIDS)
@pytest.mark.parametrize("schedule", **named(**SCHEDULES))
def test_every_term_of_gaussian_data_in_closed_form(schedule, grid, fraction):
    # x0 - D(x) = sigma^2 / V (x0 - m) - alpha P sigma / V eps, V = alpha^2 P + sigma^2. By formulas of joint
    # Gaussians: x_t = r x_s + noise of variance w; gain = cov(x_s, x_t | x0) / var(x_t | x0).
    times = grid(schedule)
    x0 = torch.tensor([[-1.1], [0.4], [2.0]], dtype=DOUBLE)
    one = torch.ones(1, dtype=DOUBLE)
    found = torch.stack([expected(line(schedule), x[None], one, times, 4, fraction=fraction)[1] for x in x0], 1)
    for i, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        a, b = moments(schedule, t)
        v = a * a * P + b * b
        square = ((b * b / v) * (x0[:, 0] - M)) ** 2 + (a * P * b / v) ** 2
        if s > 0:
            c, d = moments(schedule, s)
            r = a / c
            w, gain = b * b - (r * d) ** 2, r * d * d / (b * b)
            true = d * d - gain * r * d * d
            log_p = fraction * math.log(w) + (1 - fraction) * math.log(true)
            of_x0 = c - gain * a
            cost = 0.5 * (log_p - math.log(true) - 1 + (true + of_x0**2 * square) / math.exp(log_p))
        else:
            variance = b * b
            if i > 0:  # the lower bound at s = 0 is 0; that of the step before stands in
                c, d = moments(schedule, times[i - 1])
                r = c / a
                step_before = (d * d - (r * b) ** 2) * b * b / (d * d)
                variance = step_before ** (1 - fraction) * variance**fraction
            cost = 0.5 * (math.log(2 * math.pi * variance) + square / variance)
        assert close(found[i] / cost, torch.ones(3), 1e-7)
    alpha, sigma = moments(schedule, times[0])
    assert close(prior_cost(schedule, x0, times[0]), 0.5 * (alpha / sigma * x0[:, 0]) ** 2, 1e-12)


def exact_fraction(schedule, times):
    """For each time but the last, where the true var(x_s | x_t) of Gaussian data lies between the two bounds."""
    found = {}
    for i, (t, s) in enumerate(zip(times[:-1].tolist(), times[1:].tolist(), strict=True)):
        (a, b), (c, d) = moments(schedule, t), moments(schedule, s)
        r, v, u = a / c, a * a * P + b * b, c * c * P + d * d
        true, w = u - (r * u) ** 2 / v, b * b - (r * d) ** 2
        if s == 0:
            e, g = moments(schedule, times[max(i - 1, 0)])
            lower = (g * g - (e / a * b) ** 2) * b * b / (g * g)
        else:
            lower = w * d * d / (b * b)
        found[t] = (math.log(true) - math.log(lower)) / (math.log(w) - math.log(lower))
    return found


@pytest.mark.parametrize("grid", **named(uniform=Uniform(9), log_snr=LogSNR(12), karras=Karras(7), three=Uniform(3)))
@pytest.mark.parametrize("schedule", **named(**SCHEDULES))
def test_with_the_true_variances_the_bound_of_gaussian_data_is_tight_on_any_grid(schedule, grid):
    # The reverse steps of Gaussian data are Gaussian: all that is lost is the law that sampling starts from.
    f, times = line(schedule), grid(schedule)
    fraction = exact_fraction(schedule, times)

    class True_:
        def __init__(self):
            self.schedule = schedule

        def __call__(self, x, t, cond=None):
            return f(x, t).with_var(torch.full_like(x, fraction[float(t)]))

    prior, steps = expected(True_(), *gaussian_data(), times)
    a, b = moments(schedule, times[0])
    v = a * a * P + b * b
    lost = 0.5 * ((v + (a * M) ** 2) / b**2 - 1 - math.log(v / b**2))
    assert float(prior + steps.sum()) == pytest.approx(ENTROPY + lost, abs=1e-8)


@pytest.mark.parametrize("schedule", **named(cosine=Cosine(), flow=Flow(), shifted=Shifted(Flow(), 2.0)))
def test_the_bound_of_gaussian_data_falls_to_the_entropy_as_one_over_the_steps(schedule):
    gaps = [
        float(sum(v.sum() for v in expected(line(schedule), *gaussian_data(), Uniform(n)(schedule), fraction=1.0)))
        - ENTROPY
        for n in (8, 32, 128, 512)
    ]
    assert all(gap > 0 for gap in gaps)
    assert gaps[-1] < 0.01
    assert math.log(gaps[-2] / gaps[-1]) / math.log(4) == pytest.approx(1, abs=0.1)


MIXTURE = {
    "means": torch.tensor([[0.8], [-1.1], [0.1]], dtype=DOUBLE),
    "stds": torch.tensor([0.3, 0.5, 0.15], dtype=DOUBLE),
    "weights": torch.tensor([0.5, 0.2, 0.3], dtype=DOUBLE),
}


def mixture_data(f, nodes=24):
    z, w = normal_nodes(nodes)
    x0 = (f.means + f.stds * z).flatten()[:, None]
    return x0, (f.weights[:, None] * w).flatten()


@pytest.mark.parametrize("fraction", [0.0, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 30])
@pytest.mark.parametrize("grid", [Uniform, LogSNR, Karras])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_the_bound_of_a_mixture_is_never_below_its_likelihood(name, grid, steps, fraction):
    f = GaussianMixture(SCHEDULES[name], **MIXTURE)
    x0, weight = mixture_data(f)
    likelihood = -float(weight @ f.log_density(x0))
    prior, terms = expected(f, x0, weight, grid(steps)(f.schedule), 24, fraction=fraction)
    assert float(prior + terms.sum()) > likelihood
    assert prior >= 0
    assert (terms[:-1] > 0).all()


def test_the_bound_of_a_mixture_comes_down_to_its_likelihood():
    f = GaussianMixture(Cosine(), **MIXTURE)
    x0, weight = mixture_data(f)
    likelihood = -float(weight @ f.log_density(x0))
    found = [
        float(sum(v.sum() for v in expected(f, x0, weight, Uniform(n)(f.schedule), 24, fraction=1.0))) - likelihood
        for n in (25, 50, 100, 200)
    ]
    assert found[-1] < 0.02
    assert 1.8 < found[-2] / found[-1] < 2.2


def test_quantised_data_cost_no_less_than_their_entropy():
    # Data: a law on 8 pixel values. The chain can only do worse than the law itself, and with many bins no better.
    values = torch.tensor([0, 30, 31, 90, 128, 200, 254, 255], dtype=DOUBLE)[:, None] / 127.5 - 1
    weight = torch.tensor([1.0, 2, 3, 1, 4, 2, 2, 1], dtype=DOUBLE)
    weight = weight / weight.sum()
    entropy = -float((weight * weight.log()).sum())
    for schedule in (Table.linear(), Cosine(), VE()):
        f = GaussianMixture(schedule, values, 0.0, weight)
        for n in (1, 10, 200):
            times = Uniform(n)(schedule)
            prior, terms = expected(f, values, weight, times, 64, bins=BINS)
            assert float(prior + terms.sum()) > entropy - 1e-6


# ------------------------------------------------------------------------------------- the decoder


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("bins", [2, 3, 16, BINS])
@pytest.mark.parametrize("std", [1e-4, 0.003, 0.1, 1.0, 30.0])
def test_the_masses_of_all_bins_sum_to_one(std, bins, dtype):
    x = (torch.arange(bins, dtype=DOUBLE) * (2 / (bins - 1)) - 1).to(dtype)
    for mean in (-7.0, -1.0, -0.4, 0.0, 0.123, 1.0, 3.0):
        log_var = torch.full((bins,), 2 * math.log(std), dtype=dtype)
        total = log_mass(x, torch.full((bins,), mean, dtype=dtype), log_var, bins).exp().sum()
        assert float(total) == pytest.approx(1, abs=1e-12 if dtype == DOUBLE else 1e-5 + 1e-7 / std)


def exact_log_mass(k, mean, std, bins=BINS):
    """Of bin number k, to 60 digits: its value, and its derivatives by the mean and by the log-variance."""
    with mpmath.workdps(60):
        mean, std, root = mpmath.mpf(mean), mpmath.mpf(std), mpmath.sqrt(2)
        ends = [(mpmath.mpf(2 * k + side) / (bins - 1) - 1 - mean) / std for side in (-1, 1)]
        low = None if k == 0 else ends[0]
        high = None if k == bins - 1 else ends[1]
        sign = 1 if (low is None or (high is not None and low + high <= 0)) else -1
        tails = [mpmath.mpf(0) if v is None else mpmath.erfc(-sign * v / root) / 2 for v in (low, high)][::sign]
        mass = tails[1] - tails[0]
        density = [mpmath.mpf(0) if v is None else mpmath.npdf(v) for v in (low, high)]
        moment = [mpmath.mpf(0) if v is None else mpmath.npdf(v) * v for v in (low, high)]
        by_mean = (density[0] - density[1]) / std / mass
        return float(mpmath.log(mass)), float(by_mean), float((moment[0] - moment[1]) / 2 / mass)


@pytest.mark.parametrize("std", [1e-5, 1e-3, 0.02, 0.5, 4.0])
@pytest.mark.parametrize("k", [0, 1, 100, 254, 255])
def test_masses_and_their_gradients_are_right_far_out_in_the_tails(k, std):
    for mean in (-20.0, -1.0, -0.21, 0.0, 0.9, 5.0):
        for dtype in (torch.float32, DOUBLE):
            x, m, v = (torch.tensor(a, dtype=dtype) for a in (2 * k / 255 - 1, mean, 2 * math.log(std)))
            exact = exact_log_mass(k, float(m), math.exp(float(v) / 2))
            asked = m.clone().requires_grad_(), v.clone().requires_grad_()
            value = log_mass(x, *asked)
            got = (float(value.detach()), *map(float, torch.autograd.grad(value, asked)))
            # What rounding does: to (x - mean) / std, and to the difference of two tails that are close.
            z, width = (abs(2 * k / 255 - 1 - float(m)) + 1 / 255) / std, 2 / 255 / std
            place = 1 + z + (1 + abs(mean)) / std
            close_by = 0 if k in (0, 255) else 16 / min(1, width * (z + 1))
            error = torch.finfo(dtype).eps * (10 + (1 + z) * place + close_by)
            assert got[0] == pytest.approx(exact[0], abs=error)
            assert got[1] == pytest.approx(exact[1], rel=1e-7, abs=3 * error * (1 + z) / std)
            assert got[2] == pytest.approx(exact[2], rel=1e-7, abs=3 * error * (1 + z) * (1 + z))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_gradients_of_masses_are_finite_wherever_the_mean_is(dtype):
    x = torch.tensor([-1.0, 1.0, 1.0, -1.0, 1 / 255, 1 / 255, 101 / 255, -1.0], dtype=dtype)
    mean = torch.tensor([8.0, -8.0, 1.0, -1.0, 1 / 255, 0.9, -5.0, -30.0], dtype=dtype)
    for log_std in (-11.0, -5.0, -1.0, 0.0, 3.0):
        m = mean.clone().requires_grad_()
        v = torch.full_like(mean, 2 * log_std).requires_grad_()
        value = log_mass(x, m, v)
        value.sum().backward()
        assert value.isfinite().all()
        assert (value <= 0).all()
        assert m.grad.isfinite().all()
        assert v.grad.isfinite().all()
        # Far out the mass is that of the nearer edge's density: the slope is -z / std, z in standard deviations.
        far = torch.tensor([0, 1, 5, 6])
        edge = torch.where(mean > x, x + 1 / 255, x - 1 / 255)[far]
        slope = (edge - mean[far]) * math.exp(-2 * log_std)
        if log_std <= -5:
            assert close(m.grad[far] / slope, torch.ones(4), 1e-3)


def test_a_narrow_bin_has_the_density_times_its_width():
    x, mean, log_var = host(1 / 255), host(0.3), host(0.2)
    assert float(log_mass(x, mean, log_var)) == pytest.approx(
        float(log_density(x, mean, log_var)) + math.log(2 / 255), abs=1e-5
    )
    law = stats.norm(0.3, math.exp(0.1))
    assert float(log_density(x, mean, log_var)) == pytest.approx(law.logpdf(1 / 255), rel=1e-12)


# -------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("schedule", **named(table=Table([0.6]), certain=Table([1.0]), flow=Flow(), ve=VE()))
def test_a_chain_of_one_step_is_its_prior_and_its_decoder(schedule):
    f = Stub(schedule, lambda x, t: torch.full_like(x, 0.2))
    a, b = moments(schedule, 1.0)
    for fraction in (0.0, 1.0):
        got = variational_bound(f, PIXELS, torch.tensor([1.0, 0.0]), fraction=fraction, bins=BINS)
        decoder = -sum(exact_log_mass(k, 0.2, b)[0] for k in (0, 17, 255))
        assert float(got.steps[0, 0]) == pytest.approx(decoder, rel=1e-9)
        assert close(got.prior, 0.5 * (a / b) ** 2 * (PIXELS**2).sum(1), 1e-12)
        value = VariationalBound(1, fraction=fraction)(f, PIXELS, torch.full((3,), 0.4, dtype=DOUBLE))
        assert close(value, got.steps[:, 0] / 3 / LN2, 1e-10)


def test_a_step_by_example_is_the_scalar_step_of_each():
    schedule, x0, eps = LinearVP(), randn(4, 3, 2, seed=1).tanh(), randn(4, 3, 2, seed=2)
    t, s, below = (
        torch.tensor(v, dtype=DOUBLE) for v in ((0.9, 0.1, 0.5, 0.02), (0.8, 0, 0.1, 0), (1, 0.2, 0.7, 0.03))
    )

    def cost(i, t, s, below):
        level = schedule.at(t, x0[i])
        truth = Prediction(level.alpha * x0[i] + level.sigma * eps[i], level, x0[i], eps[i])
        guess = truth.with_x0((x0 * 0.7 + 0.1)[i])
        return step_cost(truth, guess, schedule, s, below, fraction=0.3, bins=0)

    whole = cost(slice(None), t, s, below)
    assert whole.shape == x0.shape
    for i in range(4):
        assert close(cost(slice(i, i + 1), t[i], s[i], below[i])[0], whole[i], 1e-9)


def test_the_step_of_the_bound_is_the_step_of_the_sampler():
    # KL(q || p) by its definition, from the means and variances that `posterior` gives both.
    schedule, x0, eps = Flow(), randn(4, 3, seed=1), randn(4, 3, seed=2)
    t, s = host(0.6), host(0.35)
    level = schedule.at(t, x0)
    truth = Prediction(level.alpha * x0 + level.sigma * eps, level, x0, eps)
    guess = truth.with_x0(x0.tanh()).with_var(torch.rand(4, 3, generator=seeded(3), dtype=DOUBLE))
    (m, lv), (n, lw) = posterior(truth, schedule.at(s, x0)), posterior(guess, schedule.at(s, x0))
    p, q = torch.distributions.Normal(n, (lw / 2).exp()), torch.distributions.Normal(m, (lv / 2).exp().expand_as(m))
    assert close(
        step_cost(truth, guess, schedule, s, t, fraction=0.0, bins=0), torch.distributions.kl_divergence(q, p), 1e-10
    )


@pytest.mark.parametrize("schedule", **named(table=Table.linear(), ve=VE(), cosine=Cosine()))
def test_float32_terms_are_those_in_float64(schedule):
    f, times = Stub(schedule, lambda x, t: (0.8 * x / (1 + x.abs())).clamp(-1, 1)), Uniform(30)(schedule)
    wide = variational_bound(f, PIXELS, times, noise=noise_from(seeded(5)), bins=BINS)
    draws = noise_from(seeded(5))
    narrow = variational_bound(f, PIXELS.float(), times, noise=lambda like: draws(like.double()).float(), bins=BINS)
    assert narrow.steps.dtype == DOUBLE
    # the first step's variance is about 1e-6: an error of 1e-7 in x0 there is one of 1e-4 standard deviations
    assert close(narrow.steps / wide.steps, torch.ones_like(wide.steps), 2e-3)


@pytest.mark.parametrize("times", [[1.0, 0.5], [0.5, 0.7, 0.0], [0.0]])
def test_times_that_do_not_lead_to_the_data_are_refused(times):
    with pytest.raises(ValueError, match="times"):
        variational_bound(line(Flow()), PIXELS[:, :1], torch.tensor(times))


@pytest.mark.parametrize(
    "make",
    [
        lambda: VariationalBound(bins=1),
        lambda: VariationalBound(bins=-1),
        lambda: VariationalBound(fraction=1.1),
        lambda: VariationalBound(fraction=-0.1),
        lambda: Hybrid(scale=0.0),
        lambda: Hybrid(bins=1),
    ],
)
def test_settings_that_make_no_bound_are_refused(make):
    with pytest.raises(ValueError, match="needs"):
        make()


def test_whether_pixels_are_needed_follows_from_the_bins():
    for loss in (VariationalBound, Hybrid):
        assert loss().quantised
        assert not loss(bins=0).quantised
    assert not Denoising().quantised
